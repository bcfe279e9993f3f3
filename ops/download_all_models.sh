#!/usr/bin/env bash
# Download every model that the lanes of a machine run on: a short way to `cortex models download`, which says the rest.
set -euo pipefail

usage() {
    cat <<'END'
usage: ops/download_all_models.sh [options]

  --profile NAME         laptop, strix or nvidia (default: strix, the reference box)
  --models-dir DIR       where models lie (default: ARGOS_MODELS_DIR, else ./models)
  --skip-vllm            leave out the models in vllm/
  --skip-gguf            leave out the models in gguf/
  --skip-embeddings      leave out the models in embeddings/
  --accept-licence NAME  accept a non-commercial licence, by name; may be given again
  --manifest FILE        a manifest of yours instead of the package's
  --dry-run              show what would be downloaded, and write nothing
  --verify               download nothing: read what is there and compare

Exits with 0 when everything is there, 1 when something is missing or wrong, 2 when an option or the machine is.
END
}

profile=strix
options=()
while (($#)); do
    case $1 in
        -h | --help)
            usage
            exit 0
            ;;
        --profile)
            profile=${2:?--profile needs a name}
            shift
            ;;
        --models-dir | --accept-licence | --manifest)
            options+=("$1" "${2:?$1 needs a value}")
            shift
            ;;
        --skip-vllm | --skip-gguf | --skip-embeddings | --dry-run | --verify)
            options+=("$1")
            ;;
        *)
            echo "download_all_models.sh: no option $1" >&2
            usage >&2
            exit 2
            ;;
    esac
    shift
done

# The checkout's own command where there is one, else the one that is installed.
cortex=$(dirname "$0")/../.venv/bin/cortex
[[ -x $cortex ]] || cortex=$(command -v cortex) || {
    echo "download_all_models.sh: there is no cortex command: install Cortex Pipelines first" >&2
    exit 2
}

exec "$cortex" models download --profile "$profile" "${options[@]}"
