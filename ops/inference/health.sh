#!/bin/sh
# Whether an inference server answers: it is asked for one token. With what its image has: a shell and curl.
#   health.sh vllm URL MODEL             vLLM
#   health.sh llama URL [MODEL...]       llama.cpp; without names the models of /inference/models.ini
# A model that sleeps, is not in memory or is on its way is well: lanes let go of it on purpose. So is a server that is
# busy with others and gets on with them.
set -u
kind=$1 url=$2
shift 2
seconds=${HEALTH_SECONDS:-10}

get() {
    curl -s -f --max-time 5 "$url$1"
}

# What it says to a request for one token, and the status at the end. Streamed: llama.cpp stops when nobody listens.
ask() {
    curl -s --max-time "$seconds" -w '%{http_code}' -H 'Content-Type: application/json' \
        -d "{\"model\":\"$1\",\"messages\":[{\"role\":\"user\",\"content\":\"Say yes.\"}],\"max_tokens\":1,\"stream\":true}" \
        "$url/v1/chat/completions?autoload=false"
}

sleeps() {
    [ "$kind" = vllm ] && get /is_sleeping | grep -q true
}

# What changes while it works, and only then.
counters() {
    if [ "$kind" = vllm ]; then
        get /metrics | grep -E '^vllm:(prompt_tokens_total|generation_tokens_total|kv_cache_usage_perc)'
    else
        get "/slots?model=$1&autoload=false"
    fi
}

moves() {
    before=$(counters "$1") || return 1
    for _ in 1 2 3; do
        sleep 2
        now=$(counters "$1") || return 1
        [ "$now" != "$before" ] && return 0
    done
    return 1
}

well() {
    sleeps && return 0
    said=$(ask "$1")
    case $said in
    *'"finish_reason":"'*200 | *'"finish_reason": "'*200) return 0 ;;
    *'is not loaded'*400) return 0 ;;
    *'Loading model'*503) return 0 ;;
    esac
    # It may have been put to sleep meanwhile.
    sleeps || moves "$1"
}

if [ $# -eq 0 ]; then
    # shellcheck disable=SC2046
    set -- $(sed -n 's/^\[\([^]*]*\)\]$/\1/p' "${HEALTH_MODELS:-/inference/models.ini}")
fi
[ $# -gt 0 ] || { echo "no model is named" >&2; exit 1; }
for model in "$@"; do
    well "$model" || { printf '%s gives no token: %.200s\n' "$model" "$said" >&2; exit 1; }
done
