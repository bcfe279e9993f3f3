"""What the code of a repository is made of, and what an engineer would act on in it."""
