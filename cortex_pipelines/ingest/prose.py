"""Natural language: which one a text is written in, its function words, its sentences."""

# ruff: noqa: RUF001

import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from functools import cache

# More of a text tells no more about its language.
LANGUAGE_CHARACTERS = 8_000
# Among the words of running text these many at least are function words; lists and tables have fewer.
LEAST_SHARE = 0.06
LEAST_WORDS = 2
# Of all letters, for a script to be that of the text: Japanese and Chinese texts hold Latin names.
SCRIPT_SHARE = 0.25

WORD = re.compile(r"[^\W\d_][\w'\u2019]*")

# The words that come most often in any text of a language and say nothing of what it is about. Written for this
# project; measured in tests/ingest/test_describe.py.
_FUNCTION_WORDS = {
    "en": "the of and to in a is that it for was on are as with his they at be this have from or had by but not what "
    "all were we when your can said there use an each which she do how their if will other about out many then "
    "them these so some her would make like him into has more its who been than any may must should could also "
    "only such no you i he our my me us where while because does did just over under very between both after "
    "before same being through here most own those against during without within whether per via up down",
    "de": "der die das und in den von zu mit sich des auf für ist im dem nicht ein eine als auch es an werden aus er "
    "hat dass sie nach wird bei einer um am sind noch wie einem über einen so zum war haben nur oder aber vor "
    "zur bis mehr durch man sein wurde sei wenn kann ich wir ihr ihre dieser diese dieses keine kein doch schon "
    "unter sowie ohne muss müssen können soll sollen alle hier dann damit gegen seine welche jede jeder etwa "
    "sehr ob weil",
    "fr": "de la le et les des en un du une que est pour qui dans a par plus pas au sur ne se ce il sont ou avec son "
    "aux été cette être comme mais nous vous ils elle elles ses leur leurs fait même si aussi sans peut tout "
    "tous ces ont dont où donc avoir très entre deux après avant lorsque chaque toute n'est c'est d'un d'une "
    "qu'il je j'ai lui y doit non sous vers selon lors afin encore peuvent alors celui quand",
    "es": "de la que el en y a los se del las un por con no una su para es al lo como más o pero sus le ha me si sin "
    "sobre este ya entre cuando todo esta ser son dos también fue había era muy años hasta desde está mi porque "
    "qué sólo han yo hay vez puede todos así nos ni parte tiene él uno donde bien tiempo mismo ese ahora cada e "
    "otro después debe estos esto nuestro ella usted según mediante",
    "it": "di e il la che in un a è per una sono con non si da come dei del le al nel della alla i ha anche più o ma "
    "se gli delle dalla nella lo su questo questa essere sua suo loro stato dal ed quando quello ogni cui tra "
    "fra dopo prima senza ai degli dello nei sulla sul può deve dove perché così molto tutti tutto solo ancora "
    "io mi ci poi già viene sia hanno quali l'uso mentre oppure c'è",
    "pt": "de a o que e do da em um para é com não uma os no se na por mais as dos como mas foi ao ele das tem à seu "
    "sua ou ser quando muito há nos já está eu também só pelo pela até isso ela entre era depois sem mesmo aos "
    "ter seus quem nas me esse eles estão você tinha foram essa num nem suas meu às minha têm numa pelos elas "
    "havia seja qual será deve pode este esta são cada onde após sobre então ainda",
    "nl": "de van het een en in is dat op te zijn met voor niet aan er om ook als dan maar bij of uit nog worden door "
    "naar heeft hebben ze wordt deze over tot je hij was zich kan geen wel meer moet hun dit die wij we u ik "
    "mijn haar men zou onder tussen waar wat werd alle omdat zoals kunnen moeten veel na eerst zonder elk elke "
    "welke wanneer hier daar toch zo nu iets niets",
    "da": "og i at det er en til af på for med der den som de ikke et har fra kan om men var han vil sig også ved så "
    "eller efter skal hun når være blev under over man nu end vi jeg deres ud mere hvor alle hvis kun hvad "
    "dette disse denne meget noget bliver blive mellem uden sin sine dem havde skulle kunne ville andre hver "
    "hans ind op hos før imod",
    "sv": "och i att det som en på är av för med den till inte har de ett om var från kan men vi så när sig han eller "
    "ska också efter vid under nu hon man jag alla där mycket denna detta dessa mer blir över än bara mellan "
    "utan hade skulle kunde andra sin sina ut upp finns måste vara varje vad vilken hur få några något deras "
    "mot enligt bli här samt innan inom dem",
    "no": "og i det er på til som en å av for med at den har ikke de et om fra kan men var han vil seg også ved så "
    "eller etter skal hun når være ble under over man nå enn vi jeg deres ut mer hvor alle hvis bare hva dette "
    "disse denne noe blir bli mellom uten sin sine dem hadde skulle kunne ville andre hver mye må opp hos før "
    "mot ein ikkje eit frå vere dei",
    "fi": "ja on ei se että oli hän mutta kun ovat joka myös niin jos sen voi kuin mukaan tai ole sitä mitä tämä "
    "tämän ne jotka sekä nyt vain hänen jo vielä ollut olla joita jossa kanssa koska siitä tässä siinä eivät "
    "minä hyvin sitten jälkeen ennen kaikki muun muut voidaan tulee ovatko eikä ettei joko vaan tällä näin "
    "olisi ilman välillä me te he jonka jolla mikä näiden",
    "hu": "a az és hogy nem is egy ez meg csak de volt már mint ha vagy még el kell van ki azt sem lehet fel majd ezt "
    "után mert minden olyan szerint lesz pedig amely aki ami amelyek nagyon itt ott ebben ennek annak ezek azok "
    "által között ilyen más most akkor való így úgy vagyok vannak voltak illetve valamint mi ő ők nincs új be "
    "le hanem során alatt amikor ahol",
    "ro": "de și în a la cu pe nu că o să un este din mai se pentru sau care ce au ca al fi lui cea cel prin sunt "
    "fost ale după între dar fără când dacă este-i acest această acestea ei îi îl le toate tot foarte nici până "
    "poate trebuie unei unui unor fie își sa său aceasta acestui așa ori asupra către cum unde era am noi iar "
    "numai decât",
    "tr": "ve bir bu için de da ile olarak çok daha en gibi olan ne var o ama kadar sonra her değil ya mi ki ise şey "
    "ben sen biz siz onlar veya hem göre kendi olduğu olduğunu yok iki nasıl tüm bazı şu önce üzerinde "
    "tarafından arasında diye ancak bile ilk içinde eğer olması oldu olur edilir edilen etmek değildir vardır "
    "bunu bunun onun çünkü yani hiçbir hiç",
    "cs": "a se v na je že s o do i z to ve jako za by k po ale pro který jsou od své byl tak nebo při jeho pod až "
    "jen si není ze které jak podle však která byla bude více než když už co bylo být jejich ještě také mezi ke "
    "tento tato toto této tím aby pokud může mohou proto kde před všechny kdy jsem tedy musí lze něco",
    "sk": "a sa v na je že s o do aj z to vo ako za by k po ale pre ktorý sú od svoje bol tak alebo pri jeho pod až "
    "len si nie zo ktoré podľa však ktorá bola bude viac než keď už čo bolo byť ich ešte tiež medzi ku tento "
    "táto toto tejto tým aby ak môže môžu preto kde pred všetky kedy som teda musí možno niečo ktorých",
    "pl": "w i na z się do nie że to jest o po za od jak dla co przez ale przy tym jego tylko lub oraz był może już "
    "tak czy przed są a ze być które który która tego jej bardzo także ich jednak te ma jako pod gdy więc "
    "jeszcze kiedy między było była jeśli nad tej bez można należy będzie został by każdy każdej gdzie ponieważ "
    "niż zawsze wszystkie mnie",
    "ca": "de la i el a que en les els un per una amb del és no al es més com va són han dels o aquest aquesta seva "
    "seu també però si hi ha ser entre fins quan sobre molt des tot seus altres sense on ja pot cal cada "
    "nosaltres això perquè mentre després abans aquests aquestes qual estat havia fer l'any d'un d'una només "
    "encara així",
    "eu": "eta da ez du bat dira den dute zen ere baina izan ditu edo hau hori bere dago zuen beste egin behar duen "
    "gehiago batean baino arte oso nola guztiak hala dela ziren haiek dituzte dagoen ditzakezu daiteke dezake "
    "duzu zure gabe bezala ondoren baita egiten erabili honek horrek zein bada badu haren",
    "et": "ja on ei et see oli ta kui mis aga ka oma ning või selle seda kas nii siis veel kõik need mida kes ma me "
    "nad juba välja üle pärast enne ainult võib tema olla olid olnud samuti kuid sest mille nende ega siin seal "
    "väga peab saab tuleb ilma vahel pole kus kuidas üks sellest iga neid juures korral",
    "lt": "ir kad yra į iš su tai bet buvo kaip o jo ne ar per dėl apie jau tik savo po bus ji jis jie jos nuo už iki "
    "dar taip pat prie gali kai kuris kuri kurie kurių šis ši šio šios tarp nėra būti jei jeigu visi labai be "
    "todėl arba turi reikia mes aš tačiau kurį ten čia tuo tokia",
    "lv": "un ir no ar ka uz par tas kas bija lai vai bet arī pēc kā to ne tiek tika pie var jau līdz kad gan tikai "
    "savu viņš viņa viņi šis šī šo tā tās šā ja nav būt jābūt starp bez kurš kura kuru kuras vēl pat ļoti visi "
    "mēs es tāpēc tomēr caur dēļ tad šajā",
    "id": "yang dan di dengan untuk dari ini pada adalah dalam tidak itu ke akan oleh juga atau sebagai dapat telah "
    "karena mereka ada bisa lebih saya kami kita anda sudah hanya saat tersebut menjadi seperti secara namun "
    "setelah bahwa jika antara masih harus para ia sebuah belum ketika bagi lain maka serta sebelum tanpa agar "
    "apa bila",
    "hr": "i u je se na da su za od s o a koji kao ili ne bi to iz po sa ali što do će koja koje ima nije biti kako "
    "samo više bio bila prema njegov još kada može mogu kod ako nakon prije te tako ovaj ova ovo ove svoje sve "
    "pri bez između također koju kojima gdje jer već treba mora nema jedan sam smo ste bilo",
    "sl": "in je v na da se za so pri z ki ne kot s tudi po pa bi o ali od do iz če ni bo lahko ko ima še bil bila že "
    "to ta te svoje vse ker tem kar tako med samo sem smo ste zaradi brez pred kako več bilo naj njegov njen "
    "kateri katere katera morajo mora nekaj kjer torej oziroma jih mu",
    "ga": "an na agus ar i is a le do go sé bhí ag de sin tá ní mar nó ach chun leis sa seo as faoi ina iad sí mé tú "
    "é í atá raibh níl gach nuair má dá ó roimh idir tríd gan féidir bheith den don sna orthu againn nach ceann "
    "eile",
    "is": "og að í á er sem til við um með af en því það ekki fyrir var eru hann hún þeir ég úr frá eða svo hefur "
    "verið vera þess þetta þessi þegar ef upp eftir þá sé hafa eins allt allir mjög einnig milli undir sína sér",
    "sq": "të e në dhe i për me një që është nga më nuk së si u ka janë do por kjo ky edhe mund ose duke kur ishte "
    "pas këtë këto tij saj tyre sipas gjatë nëse pa ku çdo vetëm shumë deri prej ai ajo ata",
    "af": "die van en in is het 'n nie dat wat te met vir op aan was as hy sy om by ook word deur hulle maar uit of "
    "nog sal kan jou ek ons hierdie daar waar wees moet alle meer baie hul oor toe na indien geen",
    "eo": "la de kaj en estas al ke ne por kun el mi ĝi oni li ili sur pri kiu kiuj sed per aŭ tiu kiel pli se estis "
    "da ankaŭ ĉi tio tiuj nur post ĉiuj povas inter ĝis antaŭ sen kiam devas",
    "vi": "của và là có các được cho trong một không những với người khi này đã để từ đến cũng như về ra vào tại "
    "nhưng thì sẽ đó nếu bạn hay hoặc theo trên sau bởi vì phải rất chỉ nhiều",
    "ru": "и в не на что с по как это он из но к у за от то его для а все так же было быть бы или о если только их "
    "был до при мы она они вы я мне еще ещё уже когда есть нет чтобы который которые которая может можно даже "
    "под этого этот эта эти также где чем без после между более через нужно должен",
    "uk": "і в не на що з по як це він та для але до у за від або його якщо про й є був бути було її їх вони вона ми "
    "ви я ще вже коли також який які яка може можна через цей ця ці цього між після перед без де чи тільки лише "
    "щоб тому якого під всі більше має",
    "be": "і у не на што з як гэта ён для але да за ад ці яго калі пра быў быць было яе іх яны яна мы вы я яшчэ ўжо "
    "таксама які якія якая можа можна праз гэты паміж пасля без дзе толькі каб таму пад усе больш",
    "bg": "и на в да се за от не е с по че са като това до при ще най но или които който която има може само през "
    "след беше бе те той тя ние вие аз го му им си ако както също още когато между така без тази този тези "
    "всички към много трябва бъде което",
    "sr": "и у је се на да су за од са а који као или не би то из по али што до ће која које има није бити како само "
    "више био била према још када може могу код ако након пре те тако овај ова ово своје све при без између "
    "такође",
    "mk": "и на во да се за од не е со по дека како ова до при ќе но или кои кој која има може само преку беше тие "
    "тој таа ние вие јас го му им си ако исто уште кога меѓу така без овој сите кон многу треба биде што",
    "ar": "في من على أن إلى عن مع هذا هذه التي الذي كان لا ما أو كل بعد قد لم بين عند ثم كما إذا حتى غير يمكن هو هي "
    "ذلك",
    "fa": "و در به از که این را با است برای آن یک تا می شود بر هم نیز اما یا شده خود ها باید هر کند اگر نیست بود",
    "ur": "کے میں کی ہے اور سے کا کو اس پر نے یہ کہ ہیں تھا بھی نہیں ایک وہ جو ہو کر تھے لیے اپنے",
    "el": "και το του η να της με για την που είναι σε από στο τα τον δεν ο οι των θα στην ένα μια ή αν αυτό τους στη "
    "ως έχει όπως μπορεί πρέπει όταν κατά αλλά",
    "he": "של את על לא זה הוא עם היא כי או אם גם כל אל יש אך",
}  # fmt: skip
# Scripts that tell the language, by the blocks of 128 characters that Unicode has them in. Of several languages of a
# script it is the one that most texts are in: Devanagari is taken for Hindi.
_SCRIPTS = (
    ("el", 6, 7), ("hy", 10, 10), ("he", 11, 11), ("hi", 18, 18), ("bn", 19, 19), ("pa", 20, 20), ("gu", 21, 21),
    ("or", 22, 22), ("ta", 23, 23), ("te", 24, 24), ("kn", 25, 25), ("ml", 26, 26), ("si", 27, 27), ("th", 28, 28),
    ("lo", 29, 29), ("bo", 30, 31), ("my", 32, 32), ("ka", 33, 33), ("am", 36, 38), ("km", 47, 47), ("ja", 97, 97),
    ("zh", 156, 319), ("ko", 344, 431),
)  # fmt: skip
_FAR_LETTER = re.compile(r"[^\W\x00-\u036f]")
# Letters that hardly another language of the table has: a word with one is half as telling as a function word.
_LETTERS = {
    "de": "ß", "es": "ñ¿¡", "pt": "ãõ", "fr": "œèêù", "da": "æø", "no": "æø", "sv": "åäö", "fi": "äö",
    "et": "õäü", "hu": "őűöüóú", "ro": "țşșţă", "tr": "ğşı", "cs": "ěřůčšžýťďň", "sk": "ľŕĺôčšžýťďň",
    "pl": "łąęśźżćń", "ca": "·ïç", "lt": "ėųūįę", "lv": "āēīķļņģ", "hr": "đćšž", "sl": "čšž", "is": "þðæ",
    "sq": "ëç", "eo": "ĉĝĥĵŝŭ", "vi": "ơưđạảấầậắằếềệỉịọỏốồộớờợụủứừựỳ", "ru": "ыэъё", "uk": "їєґі",
    "be": "ўіыэ", "bg": "ъщ", "sr": "ћђљњџј", "mk": "ѓќѕљњџј", "fa": "پچژگ", "ur": "ٹڈڑںےہ", "ar": "ةىأإ",
}  # fmt: skip
# Words with a full stop that ends no sentence, in lower case and without it.
_ABBREVIATED = (
    "e.g i.e cf etc vs al approx resp incl excl fig figs eq no nos vol pp ed eds dr mr mrs ms prof sr jr st inc "
    "ltd co corp dept est min max sec ch jan feb mar apr jun jul aug sept sep oct nov dec z.b d.h u.a bzw usw "
    "ca vgl nr abb tab bd hrsg evtl ggf inkl sog z.t u.u o.ä mio mrd str art abs p.ex env m mme mlle p.ej pág "
    "sr sra dña ecc pag dott sig bijv enz blz t.ex bl.a t.o.m d.v.s f.eks osv kl np itd itp tj tzn tzw mgr inż "
    "napr atd tzv pl stb kb т.е т.д т.п др см рис стр гл им напр"
)
_ABBREVIATIONS = frozenset(_ABBREVIATED.split())
# In these languages a number with a full stop is an ordinal more often than the end of a sentence.
_ORDINALS = frozenset({"de", "da", "no", "fi", "et", "hu", "cs", "sk", "sl", "hr", "pl", "is", "lv", "tr"})
_ENDS = re.compile(
    r"[.!?\u2026]+[\"'\u201d\u2019\u00bb)\]*_]{0,3}(?=\s+[\"'\u201c\u2018\u201e\u00ab(\[*_`\u00bf\u00a1]{0,3}[^\W_a-z])"
    r"|[\u3002\uff01\uff1f][\u300d\u300f\u201d\uff09]?|[\u0964\u06d4\u061f]"
)
_BEFORE = re.compile(r"[^\s(\[\"'\u201e\u201c]*$")


def language_of(text: str) -> str:
    """The language of a text (ISO 639-1); empty where too little tells."""
    text = text[:LANGUAGE_CHARACTERS]
    script = "" if text.isascii() else _script(text)
    if script:
        return script
    counts = Counter(WORD.findall(text.lower()))
    known, marked = _known()
    scores: dict[str, float] = defaultdict(float)
    told: dict[str, float] = defaultdict(float)
    for word, count in counts.items():
        for language, weight in known.get(word, ()):
            scores[language] += weight * count
            told[language] += count
        if not word.isascii():
            for language in {language for letter in word for language in marked.get(letter, ())}:
                scores[language] += count / 2
                told[language] += count / 2
    if not scores:
        return ""
    best = max(sorted(scores), key=scores.__getitem__)
    return best if told[best] >= max(LEAST_WORDS, LEAST_SHARE * counts.total()) else ""


def _script(text: str) -> str:
    letters = _FAR_LETTER.findall(text)
    least = SCRIPT_SHARE * sum(map(str.isalpha, text))
    if not letters or len(letters) < least:
        return ""
    blocks = Counter(ord(letter) >> 7 for letter in letters)
    shares = {name: sum(blocks[at] for at in blocks if first <= at <= last) for name, first, last in _SCRIPTS}
    # Japanese is told by its own letters, which stand among Chinese ones.
    if shares["ja"] * 8 > shares["zh"]:
        shares["ja"] += shares["zh"]
        shares["zh"] = 0
    best = max(sorted(shares), key=shares.__getitem__)
    return best if shares[best] >= least else ""


@cache
def function_words(language: str) -> frozenset[str]:
    """The function words of a language; those of English where it is not known."""
    return frozenset(_FUNCTION_WORDS.get(language, _FUNCTION_WORDS["en"]).split())


def sentences(text: str, language: str = "") -> Iterator[tuple[int, int]]:
    """Where the sentences of a paragraph start and end."""
    start = 0
    for found in _ENDS.finditer(text):
        if found[0][0] == "." and _goes_on(text[max(start, found.start() - 24) : found.start()], language):
            continue
        if text[start : found.end()].strip():
            yield start + _blank(text, start), found.end()
        start = found.end()
    end = len(text.rstrip())
    if start + _blank(text, start) < end:
        yield start + _blank(text, start), end


def _goes_on(before: str, language: str) -> bool:
    """Whether a full stop belongs to the word before it."""
    match = _BEFORE.search(before)
    word = match[0] if match else ""
    if word.isdecimal():
        return len(word) <= 2 and language in _ORDINALS
    # An initial, as in J. Smith, or a part of z. B.; "I" ends sentences.
    return (len(word) == 1 and word.isalpha() and word.isascii() and word != "I") or word.lower() in _ABBREVIATIONS


def _blank(text: str, start: int) -> int:
    return len(text) - start - len(text[start:].lstrip()) if start < len(text) and text[start].isspace() else 0


@cache
def _known() -> tuple[dict[str, list[tuple[str, float]]], dict[str, list[str]]]:
    """By function word its languages, each with a weight that many languages share; by letter its languages."""
    known: dict[str, list[str]] = {}
    for language in _FUNCTION_WORDS:
        for word in sorted(function_words(language)):
            known.setdefault(word, []).append(language)
    marked: dict[str, list[str]] = {}
    for language, letters in _LETTERS.items():
        for letter in letters:
            marked.setdefault(letter, []).append(language)
    return {word: [(name, len(names) ** -0.5) for name in names] for word, names in known.items()}, marked
