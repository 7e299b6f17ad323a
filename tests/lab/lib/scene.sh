# shellcheck shell=bash
# Scenes that the lab's own phones play (scenes.py).

: "${here:?sourced by lab}"

lab_scene() { # SCENE OUT [-- CMD…]
  local scene=$1 out=$2 work status=0
  shift 2
  if (($#)); then
    [[ $1 == -- ]] || usage
    shift
  fi
  work=$(mktemp -d)
  LAB_DIRS+=("$work")
  lab_speech en+f3 "$LAB_CALLER_TEXT" 12 "$work/a.wav"
  lab_speech en "$LAB_CALLEE_TEXT" 12 "$work/b.wav"
  lab_speech en+m3 "$LAB_THIRD_TEXT" 12 "$work/c.wav"
  local host
  for host in a b c; do sox "$work/$host.wav" -r 8000 -c 1 -t al "$work/$host.alaw"; done
  lab_record "$out" "$@"
  LAB_PREFIX=$LAB_PREFIX timeout 60 python3 "$here/scenes.py" "$scene" "$work" || die "the scene $scene fails (exit status $?)"
  lab_stop_record || status=$?
  lab_must_be_silent
  return "$status"
}
