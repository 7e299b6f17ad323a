# shellcheck shell=bash
# Many calls at once by SIPp, with RTP both ways.

: "${here:?sourced by lab}"

lab_load() { # CALLS RATE OUT [SECONDS] [-- CMD…]
  local calls=$1 rate=$2 out=$3 seconds=10
  shift 3
  if (($#)) && [[ $1 != -- ]]; then seconds=$1 && shift; fi
  if (($#)); then
    [[ $1 == -- ]] || usage
    shift
  fi
  local work callee status=0 bound
  bound=$((calls / rate + seconds + 30))
  work=$(mktemp -d)
  LAB_DIRS+=("$work")
  cp "$here"/sipp/*.xml "$work"
  lab_speech en+f3 "$LAB_CALLER_TEXT" 10 "$work/caller.wav"
  lab_speech en "$LAB_CALLEE_TEXT" 10 "$work/callee.wav"
  # SIPp streams the bytes of a file as they are: A-law without a header.
  sox "$work/caller.wav" -r 8000 -c 1 -t al "$work/caller.alaw"
  sox "$work/callee.wav" -r 8000 -c 1 -t al "$work/callee.alaw"
  lab_record "$out" "$@"
  (cd "$work" && exec ip netns exec "$LAB_PREFIX-b" timeout "$bound" sipp -sf uas.xml -i 10.99.0.2 -p 5060 -mi 10.99.0.2 -mp 20000 \
    -m "$calls" -nostdin </dev/null >"$work/b.log" 2>&1) & callee=$!
  LAB_PIDS+=("$callee")
  sleep 1
  (cd "$work" && exec ip netns exec "$LAB_PREFIX-a" timeout "$bound" sipp -sf uac.xml -i 10.99.0.1 -p 5060 -mi 10.99.0.1 -mp 20000 \
    -m "$calls" -r "$rate" -l "$calls" -d "$((seconds * 1000))" \
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
