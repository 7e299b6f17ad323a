# shellcheck shell=bash
# Many calls at once by SIPp, with RTP both ways.

: "${here:?sourced by lab}"

# SIPp streams the bytes of a file as they are: speech as a codec's payloads, without a header.
lab_payloads() { # CODEC IN.wav OUT
  case $1 in
    PCMA) sox "$2" -r 8000 -c 1 -t al "$3" ;;
    PCMU) sox "$2" -r 8000 -c 1 -t ul "$3" ;;
    G722) ffmpeg -v error -y -i "$2" -ar 16000 -ac 1 -f g722 "$3" ;;
    G729) sox "$2" -r 8000 -c 1 -b 16 -t raw - | python3 "$here/lib/g729.py" >"$3" ;;
    *) die "SIPp streams PCMA, PCMU, G722 and G729, not $1" ;;
  esac
}

lab_load() { # CALLS RATE OUT [SECONDS] [--codec CODEC] [-- CMD…]
  local calls=$1 rate=$2 out=$3 seconds=10 codec=PCMA type
  shift 3
  if (($#)) && [[ $1 != --* ]]; then seconds=$1 && shift; fi
  if (($# >= 2)) && [[ $1 == --codec ]]; then codec=$2 && shift 2; fi
  if (($#)); then
    [[ $1 == -- ]] || usage
    shift
  fi
  # RFC 3551, table 4.
  case $codec in PCMU) type=0 ;; PCMA) type=8 ;; G722) type=9 ;; G729) type=18 ;; esac
  local work party callee status=0 bound
  bound=$((calls / rate + seconds + 30))
  work=$(mktemp -d)
  LAB_DIRS+=("$work")
  for party in uac uas; do sed "s,TYPE,$type,g; s,CODEC,$codec," "$here/sipp/$party.xml" >"$work/$party.xml"; done
  lab_speech en+f3 "$LAB_CALLER_TEXT" 10 "$work/caller.wav"
  lab_speech en "$LAB_CALLEE_TEXT" 10 "$work/callee.wav"
  for party in caller callee; do lab_payloads "$codec" "$work/$party.wav" "$work/$party.rtp"; done
  lab_record "$out" "$@"
  (cd "$work" && exec ip netns exec "$LAB_PREFIX-b" timeout "$bound" sipp -sf uas.xml -i 10.99.0.2 -p 5060 -mi 10.99.0.2 -mp 20000 \
    -m "$calls" -deadcall_wait 0 -nostdin </dev/null >"$work/b.log" 2>&1) & callee=$!
  LAB_PIDS+=("$callee")
  sleep 1
  (cd "$work" && exec ip netns exec "$LAB_PREFIX-a" timeout "$bound" sipp -sf uac.xml -i 10.99.0.1 -p 5060 -mi 10.99.0.1 -mp 20000 \
    -m "$calls" -r "$rate" -l "$calls" -deadcall_wait 0 -d "$((seconds * 1000))" \
    -trace_err -error_file "$work/a.err" -nostdin 10.99.0.2:5060 </dev/null >"$work/a.log" 2>&1) || status=$?
  if ((status)); then
    tail -n 30 "$work/a.log" >&2
    [[ -s $work/a.err ]] && head -n 20 "$work/a.err" >&2
    die "SIPp failed (exit status $status)"
  fi
  kill "$callee" 2>/dev/null || true
  wait "$callee" || true
  lab_stop_record || status=$?
  lab_must_be_silent
  return "$status"
}
