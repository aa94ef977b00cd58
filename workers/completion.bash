# bash completion for mqredis-worker, mqredis-manager, mqredis-gateway,
# mqredis-server, mqstat.
#
# Options come from the program's own --help, so they are those of the version
# that is installed; channels from the folders they live in; command names from
# the server, asked once a shell through the channel itself.

_mqredis_channels() {
    local dir channel
    for dir in ${MQREDIS_DIR:+"$MQREDIS_DIR"} /run/mqredis \
        "/dev/shm/mqredis-$EUID"; do
        for channel in "$dir"/*/queue; do
            [[ -e $channel ]] || continue
            channel=${channel%/queue}
            printf '%s\n' "${channel##*/}"
        done
    done
}

_mqredis_commands() {
    if [[ -z ${_mqredis_command_names-} ]]; then
        _mqredis_command_names=$("$1" --timeout 300 COMMAND LIST \
            2>/dev/null) || _mqredis_command_names=
    fi
    printf '%s\n' "$_mqredis_command_names"
}

_mqredis() {
    local program=$1 cur=$2 prev=$3 i word words
    COMPREPLY=()
    case $prev in
    -c | --channel)
        mapfile -t COMPREPLY < <(compgen -W "$(_mqredis_channels)" -- "$cur")
        return
        ;;
    --wait)
        [[ ${program##*/} != mqstat ]] || mapfile -t COMPREPLY < <(compgen -W \
            "starting connected reconnecting paused draining closed died up down
            idle" -- "$cur")
        return
        ;;
    --timeout | --spin | -r | -i)
        return
        ;;
    esac
    if [[ $cur == -* ]]; then
        words=$("$program" --help 2>/dev/null |
            grep -oE '(^|[ ,])--?[a-zA-Z][a-z0-9-]*' | tr -d ' ,')
        mapfile -t COMPREPLY < <(compgen -W "$words" -- "$cur")
        return
    fi
    case ${program##*/} in
    mqstat)
        words=$(_mqredis_channels)
        ((COMP_CWORD > 1)) || words+=" pause resume drain reload kill-client"
        mapfile -t COMPREPLY < <(compgen -W "$words" -- "$cur")
        return
        ;;
    mqredis-worker) ;;
    *)
        mapfile -t COMPREPLY < <(compgen -f -- "$cur")
        return
        ;;
    esac
    # A command's name is the first word that is no option, nor its value.
    for ((i = 1; i < COMP_CWORD; i++)); do
        word=${COMP_WORDS[i]}
        case $word in
        -c | --channel | --timeout | --wait | --spin | -r | -i) ((i++)) ;;
        -*) ;;
        *) return ;;
        esac
    done
    mapfile -t COMPREPLY < <(compgen -W "$(_mqredis_commands "$program")" \
        -- "${cur,,}")
}

complete -F _mqredis mqredis-worker mqredis-manager mqredis-gateway \
    mqredis-server mqstat
