# Completion for stillpoint and stillrun.

_stillpoint_jobs() {
  local directory
  for directory in /run/stillpoint/jobs/*/; do
    # "JOB@0" is a part of a job that is led elsewhere, or here under its own name.
    [ -d "$directory" ] && [[ $directory != *@* ]] && basename "$directory"
  done
}

_stillpoint() {
  local word=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]} command=${COMP_WORDS[1]}
  local commands='run checkpoint restart status list inspect verify check'
  local keeping='--hosts --hostfile --checkpoint-interval --checkpoint-dir --checkpoint-keep --staging --hold-limit --tag-output --user'
  local options
  COMPREPLY=()
  if [ "${COMP_WORDS[0]##*/}" = stillrun ]; then
    command=run
  elif [ "$COMP_CWORD" = 1 ]; then
    mapfile -t COMPREPLY < <(compgen -W "$commands --help --version" -- "$word")
    return
  fi
  case $previous in
    --checkpoint-dir | --staging | --wdir)
      compopt -o filenames
      mapfile -t COMPREPLY < <(compgen -d -- "$word")
      return ;;
    --hostfile)
      compopt -o filenames
      mapfile -t COMPREPLY < <(compgen -f -- "$word")
      return ;;
    --checkpoint-interval)
      mapfile -t COMPREPLY < <(compgen -W '5m 15m 30m 1h 2h' -- "$word")
      return ;;
    --user)
      mapfile -t COMPREPLY < <(compgen -u -- "$word")
      return ;;
    --hosts)
      # The last of a list: what stands before it stays.
      local before=''
      [[ $word != *,* ]] || before=${word%,*},
      mapfile -t COMPREPLY < <(compgen -P "$before" -A hostname -- "${word##*,}")
      return ;;
    -n | --np | --name | --checkpoint-keep | -x) return ;;
  esac
  case $command in
    run) options="-n --np --name $keeping -x --wdir --help" ;;
    checkpoint) options='--stop --timeout --json --help' ;;
    restart) options="$keeping --help" ;;
    status | list | inspect) options='--json --help' ;;
    check) options='--hosts --json --help' ;;
    verify) options='--help' ;;
    *) return ;;
  esac
  if [[ $word == -* ]]; then
    mapfile -t COMPREPLY < <(compgen -W "$options" -- "$word")
    return
  fi
  case $command in
    checkpoint | status) mapfile -t COMPREPLY < <(compgen -W "$(_stillpoint_jobs)" -- "$word") ;;
    run)
      compopt -o filenames
      mapfile -t COMPREPLY < <(compgen -c -- "$word"; compgen -d -- "$word") ;;
    *)
      compopt -o filenames
      mapfile -t COMPREPLY < <(compgen -f -- "$word") ;;
  esac
}

complete -F _stillpoint stillpoint stillrun
