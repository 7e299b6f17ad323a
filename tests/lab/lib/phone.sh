# shellcheck shell=bash
# Two baresip phones that call each other and say something.

: "${here:?sourced by lab}"

LAB_CALLER_TEXT="Hello, I have a question about my last bill. It is twelve euros higher than in the
letter that you sent me in spring. Could you please look at my contract, and tell me which price we
agreed on? My customer number is four seven one one. Yes, I can wait for a moment, thank you."
LAB_CALLEE_TEXT="Good morning, you are talking to the service desk of the water works. This call is
recorded for training. May I have your customer number, please? Thank you very much, I will open your
contract now. One moment, the system is a little slow today. I see, the new price began in May."
LAB_THIRD_TEXT="Accounts department, this is Cora. Yes, I have the contract here on my desk. The price was
agreed in March, and the letter is wrong. I will send you a new bill tomorrow morning, and you need not
pay the difference. Is there anything else that I can do for you today?"

# Speech of at least SECONDS at 16 kHz, mono. Kept in LAB_VOICES, if that is set: the synthesis of one
# lab's voices must not stall the phones of another.
lab_speech() { # VOICE TEXT SECONDS OUT.wav
  local spoken=$4.once.wav length repeats kept=''
  if [[ -n ${LAB_VOICES:-} ]]; then
    kept=$LAB_VOICES/$(md5sum <<<"$1 $2 $3" | cut -c1-16).wav
    if [[ -s $kept ]]; then cp "$kept" "$4" && return; fi
  fi
  espeak-ng -v "$1" -s 150 -w "$spoken" "$2"
  length=$(soxi -D "$spoken")
  repeats=$(awk -v want="$3" -v have="$length" 'BEGIN { print int(want / have) + 1 }')
  sox "$spoken" -r 16000 -c 1 -b 16 "$4" gain -3 pad 0.2 0.3 repeat "$repeats"
  rm "$spoken"
  if [[ -n $kept ]]; then cp "$4" "$kept.$$" && mv "$kept.$$" "$kept"; fi
}

lab_modules() { # where baresip keeps its modules
  local directory
  for directory in /usr/lib/baresip/modules /usr/lib/*/baresip/modules /usr/local/lib/baresip/modules; do
    [[ -d $directory ]] && echo "$directory" && return
  done
  die "baresip's modules are not found: install baresip-core"
}

lab_host() { # ADDRESS: as a URI has it
  if [[ $1 == *:* ]]; then echo "[$1]"; else echo "$1"; fi
}

lab_phone() { # DIR NAME NUMBER ADDRESS WAV CODEC PARAMS TRANSPORT: writes a baresip configuration
  local module
  mkdir -p "$1"
  {
    echo "poll_method epoll"
    echo "sip_listen $(lab_host "$4"):5060"
    [[ $4 != *:* ]] || echo "net_prefer_ipv6 yes"
    echo "call_local_timeout 120"
    echo "audio_source aufile,$5"
    echo "audio_player aubridge,nul"
    echo "audio_alert aubridge,nul"
    echo "ausrc_srate 16000"
    echo "auplay_srate 16000"
    echo "ausrc_channels 1"
    echo "auplay_channels 1"
    echo "rtp_ports 10000-20000"
    echo "ctrl_tcp_listen 127.0.0.1:4444"
    echo "module_path $(lab_modules)"
    for module in g711 g722 g726 gsm l16 opus amr codec2 srtp dtls_srtp aufile aubridge; do echo "module $module.so"; done
    echo "module_tmp uuid.so"
    echo "module_tmp account.so"
    echo "module_app menu.so"
    echo "module_app ctrl_tcp.so"
  } >"$1/config"
  echo "\"$2\" <sip:$3@$(lab_host "$4");transport=$8>;regint=0;answermode=auto;audio_codecs=$6$7" >"$1/accounts"
}

# One command to the phone of HOST through its control port, e.g. `hold`.
lab_press() { # HOST COMMAND [PARAMS]
  local host=$1
  shift
  lab_in "$host" timeout 5 python3 "$here/lib/press.py" "$@" || die "the phone of $host does not take \`$1\`"
}

lab_call() { # CODEC OUT SECONDS [TRANSPORT] [options] [-- CMD…]
  local codec=$1 out=$2 seconds=$3 transport=udp hangup=caller hold=() dtmf='' account='' speech=() transfer='' net=10.99.0. third=''
  shift 3
  while (($#)); do
    case $1 in
      udp | tcp) transport=$1 && shift ;;
      --hangup) hangup=$2 && shift 2 ;;
      --hold) hold=("$2" "$3") && shift 3 ;;
      --dtmf) dtmf=$2 && shift 2 ;;
      --account) account=$2 && shift 2 ;;
      --transfer) transfer=$2 && shift 2 ;;
      --ipv6) net=fd99:: && shift ;;
      --speech) speech=("$2" "$3") && shift 3 ;;
      --) shift && break ;;
      *) usage ;;
    esac
  done
  local work caller callee status=0 caller_ends callee_ends
  work=$(mktemp -d)
  LAB_DIRS+=("$work")
  if ((${#speech[@]})); then
    cp "${speech[0]}" "$work/caller.wav"
    cp "${speech[1]}" "$work/callee.wav"
  else
    lab_speech en+f3 "$LAB_CALLER_TEXT" "$((seconds + 10))" "$work/caller.wav"
    lab_speech en "$LAB_CALLEE_TEXT" "$((seconds + 10))" "$work/callee.wav"
  fi
  lab_phone "$work/a" Anna 4820001001 "${net}1" "$work/caller.wav" "$codec" "$account" "$transport"
  lab_phone "$work/b" Bert 4830002002 "${net}2" "$work/callee.wav" "$codec" "$account" "$transport"
  lab_record "$out" "$@"
  if [[ -n $transfer ]]; then
    lab_speech en+m3 "$LAB_THIRD_TEXT" "$((seconds + 10))" "$work/third.wav"
    lab_phone "$work/c" Cora 4840003003 "${net}3" "$work/third.wav" "$codec" "$account" "$transport"
    lab_in c timeout "$((seconds + 13))" baresip -f "$work/c" -t "$((seconds + 8))" </dev/null >"$work/c.log" 2>&1 & third=$!
    LAB_PIDS+=("$third")
  fi
  # Who hangs up is whose phone leaves first: -t ends a phone, and its calls with BYE.
  caller_ends=$seconds callee_ends=$((seconds + 8))
  [[ $hangup == callee ]] && caller_ends=$((seconds + 8)) callee_ends=$((seconds + 2))
  lab_in b timeout "$((callee_ends + 5))" baresip -f "$work/b" -t "$callee_ends" \
    </dev/null >"$work/b.log" 2>&1 & callee=$!
  LAB_PIDS+=("$callee")
  sleep 2
  lab_in a timeout "$((caller_ends + 5))" baresip -f "$work/a" -t "$caller_ends" \
    -e "/dial sip:4830002002@$(lab_host "${net}2")" </dev/null >"$work/a.log" 2>&1 & caller=$!
  LAB_PIDS+=("$caller")
  local second=0
  if [[ -n $dtmf ]]; then
    sleep 2 && second=2
    lab_press a sndcode "$dtmf"
  fi
  if ((${#hold[@]})); then
    sleep "$((hold[0] - second))"
    lab_press a hold
    sleep "${hold[1]}"
    lab_press a resume
  fi
  if [[ -n $transfer ]]; then
    sleep "$((transfer - second))"
    lab_press b transfer "sip:4840003003@$(lab_host "${net}3")"
  fi
  if [[ $hangup == callee ]]; then
    wait "$callee" || true
    kill "$caller" 2>/dev/null || true
    wait "$caller" || true
  else
    wait "$caller" || true
    kill "$callee" 2>/dev/null || true
    wait "$callee" || true
  fi
  if [[ -n $third ]]; then
    kill "$third" 2>/dev/null || true
    wait "$third" || true
  fi
  lab_stop_record || status=$?
  grep -aq 'Call established' "$work/a.log" || {
    cat "$work/a.log" "$work/b.log" >&2
    die "the phones did not connect"
  }
  lab_must_be_silent
  return "$status"
}
