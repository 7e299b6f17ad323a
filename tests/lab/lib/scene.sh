# shellcheck shell=bash
# Scenes that the lab's own phones play (scenes.py).

: "${here:?sourced by lab}"

lab_encode() { # IN.wav CODEC OUT: frames one after the other, all of one size
  case $2 in
    PCMA) sox "$1" -r 8000 -c 1 -t al "$3" ;;
    G729) sox "$1" -r 8000 -c 1 -t s16 - | python3 "$here/lib/g729.py" >"$3" ;;
    G723) ffmpeg -v error -i "$1" -map 0:a -ar 8000 -ac 1 -c:a g723_1 -b:a 6300 -f data "$3" ;;
    speex) ffmpeg -v error -i "$1" -map 0:a -ar 8000 -ac 1 -c:a libspeex -cbr_quality 8 -frames_per_packet 1 -f data "$3" ;;
    *) die "the lab's phones do not speak $2" ;;
  esac
}

lab_scene() { # SCENE OUT [--codec CODEC] [-- CMD…]
  local scene=$1 out=$2 codec=PCMA work host callee='' status=0
  shift 2
  if [[ ${1:-} == --codec ]]; then codec=$2 && shift 2; fi
  if (($#)); then
    [[ $1 == -- ]] || usage
    shift
  fi
  work=$(mktemp -d)
  LAB_DIRS+=("$work")
  lab_speech en+f3 "$LAB_CALLER_TEXT" 12 "$work/a.wav"
  lab_speech en "$LAB_CALLEE_TEXT" 12 "$work/b.wav"
  lab_speech en+m3 "$LAB_THIRD_TEXT" 12 "$work/c.wav"
  for host in a b c; do lab_encode "$work/$host.wav" "$codec" "$work/$host.$codec"; done
  if [[ $scene == over:* ]]; then
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=bert.lab \
      -keyout "$work/server.pem" -out "$work/server.crt" 2>/dev/null
    cat "$work/server.crt" >>"$work/server.pem"
    : "${LAB_KEYLOG:=$out.keys}"
    export LAB_KEYLOG
    rm -f "$LAB_KEYLOG"
  fi
  lab_record "$out" "$@"
  if [[ $scene == out:* ]]; then # the callee is baresip
    lab_phone "$work/b" Bert 4830002002 10.99.0.2 "$work/b.wav" "$codec/8000/1" ";mediaenc=srtp-mand" udp
    lab_in b timeout 30 baresip -f "$work/b" -t 25 </dev/null >"$work/b.log" 2>&1 & callee=$!
    LAB_PIDS+=("$callee")
    sleep 2
  fi
  LAB_PREFIX=$LAB_PREFIX timeout 60 python3 "$here/scenes.py" "$scene" "$codec" "$work" || die "the scene $scene fails (exit status $?)"
  if [[ -n $callee ]]; then
    kill "$callee" 2>/dev/null || true
    wait "$callee" || true
  fi
  lab_stop_record || status=$?
  lab_must_be_silent
  return "$status"
}
