#!/usr/bin/env bash
# Full disks, little memory, kills and rivals, for every command that writes a file: whatever comes in between,
# the file is whole, what it was before, or not there; nothing lies beside it; no command is ended by a signal
# but the one sent. Prints a count for each part and exits 1 on the first kind of fault that it met.
#   scripts/outputs.sh LINNET [ROUNDS]    the command, and kills per writer and signal (20)
# Full disks need the right to mount a tmpfs (root, or `unshare -rm scripts/outputs.sh ...`).
set -u
linnet=$(realpath "$1")
rounds=${2:-20}
golden=$(realpath "$(dirname "$0")/../tests/golden")
work=$(mktemp -d)
trap 'umount "$work/disk" 2>/dev/null; rm -rf "$work"' EXIT
faults=0
fault() {
  faults=$((faults + 1))
  echo "FAULT: $*: $(tail -c 300 "$work/err")" >&2
}

le64() { for shift in 0 8 16 24 32 40 48 56; do printf "\\x$(printf %02x $((($1 >> shift) & 255)))"; done; }
header='{"input_ids":{"dtype":"I32","shape":[3],"data_offsets":[0,12]}}'
{ le64 ${#header}; printf %s "$header"; printf '\5\0\0\0\6\0\0\0\7\0\0\0'; } > "$work/ids"
"$linnet" convert "$golden/language/llama/model" -o "$work/chat.lnt" --quantize f32 2> "$work/err" &&
  "$linnet" convert "$golden/image/sana_pipeline/model" -o "$work/image.lnt" --quantize f32 2> "$work/err" ||
  { cat "$work/err" >&2; exit 2; }

writers="convert report save prefix run image tensors"
# The command of a writer, for the file $2.
set_command() {
  case $1 in
    convert) command=(convert "$golden/language/llama/model" -o "$2" --quantize f32 --force) ;;
    report) command=(convert "$golden/language/llama/model" --dry-run --quantize q4k --report "$2" --force) ;;
    save) command=(chat "$work/chat.lnt" --prompt Hi --max-tokens 20 --temperature 0 --save "$2" --force) ;;
    prefix) command=(chat "$work/chat.lnt" --system "Be brief." --prompt Hi --max-tokens 3 --temperature 0
      --prefix-cache "$2") ;;
    run) command=(run "$work/chat.lnt" --inputs "$work/ids" --outputs "$2" --force) ;;
    image) command=(image "$work/image.lnt" "a bird" -o "$2" --size 32 24 --steps 2 --force) ;;
    tensors) command=(image "$work/image.lnt" "a bird" -o /dev/null --size 32 24 --steps 2 --force
      --tensors "$2") ;;
  esac
}
# Whether a file that a writer published is the one that it writes when nothing comes in between.
whole() {
  case $1 in
    convert) "$linnet" inspect "$2" --verify > /dev/null 2> "$work/err" ;;
    save) "$linnet" chat "$work/chat.lnt" --load "$2" --prompt x --max-tokens 1 > /dev/null 2> "$work/err" ;;
    *) cmp -s "$work/good.$1" "$2" ;;
  esac
}
# What must hold of folder $2 after writer $1 ended with code $3: file "out" whole, or as it was ($4; "": absent).
check_folder() {
  local left
  left=$(find "$2" -mindepth 1 ! -name out ! -name filler | wc -l)
  leftovers=$((leftovers + left))
  if [ "$left" != 0 ] && [ "$3" != 137 ]; then fault "$1 left $(ls -A "$2")"; fi
  if [ -e "$2/out" ]; then
    if [ -n "$4" ] && cmp -s "$4" "$2/out"; then kept=$((kept + 1));
    elif whole "$1" "$2/out"; then published=$((published + 1));
    else fault "$1 published a damaged file (code $3)"; fi
  elif [ -n "$4" ]; then fault "$1 removed the file that was there (code $3)";
  else absent=$((absent + 1)); fi
}
reset_counts() { runs=0 published=0 kept=0 absent=0 leftovers=0; }
say_counts() {
  echo "$1: $runs runs, $published files whole, $kept as they were, $absent absent, $leftovers left beside"
}

echo old > "$work/old"
for writer in $writers; do
  set_command $writer "$work/good.$writer"
  "$linnet" "${command[@]}" > /dev/null 2> "$work/err" || fault "$writer fails undisturbed"
  whole $writer "$work/good.$writer" || fault "$writer is not repeatable"
done

# Disks with room for each share of the file, without and with a file there before.
mkdir "$work/disk"
if mount -t tmpfs -o size=16m none "$work/disk" 2> /dev/null; then
  reset_counts
  for writer in $writers; do
    size=$(stat -c %s "$work/good.$writer")
    for step in $(seq 0 12); do
      for before in "" "$work/old"; do
        # A prefix cache does not take another file's place.
        [ $writer = prefix ] && [ -n "$before" ] && continue
        rm -rf "$work/disk"/*
        [ -n "$before" ] && cp "$before" "$work/disk/out"
        room=$((size * step / 10 / 4096 * 4096))
        free=$(df --output=avail -B1 "$work/disk" | tail -1)
        fallocate -l $((free - room)) "$work/disk/filler"
        set_command $writer "$work/disk/out"
        "$linnet" "${command[@]}" > /dev/null 2> "$work/err"
        code=$?
        runs=$((runs + 1))
        [ $code = 0 ] || [ $code = 1 ] || fault "$writer on a full disk has code $code"
        [ $code = 1 ] && ! grep -q '^linnet: ' "$work/err" && fault "$writer on a full disk says nothing"
        rm "$work/disk/filler" # what checks the file may need room
        check_folder $writer "$work/disk" $code "$before"
      done
    done
  done
  say_counts "full disks"
  umount "$work/disk"
else
  echo "full disks: not tried, a tmpfs cannot be mounted here"
fi

# 35 limits of memory from the least in which the command can be loaded, 768 KiB apart.
reset_counts
refused=0
mkdir "$work/memory"
least=4096
until (ulimit -v $least; ulimit -c 0; exec "$linnet" --version) > /dev/null 2>&1; do least=$((least + 256)); done 2> /dev/null
for kib in $(seq $least 768 $((least + 34 * 768))); do
  for what in inspect chat $writers; do
    rm -rf "$work/memory"/*
    case $what in
      inspect) command=(inspect "$work/chat.lnt" --verify --memory) ;;
      chat) command=(chat "$work/chat.lnt" --prompt Hi --max-tokens 8 --threads 2) ;;
      *) set_command $what "$work/memory/out" ;;
    esac
    (ulimit -v $kib; ulimit -c 0; exec "$linnet" "${command[@]}" > /dev/null 2> "$work/err") 2> /dev/null
    code=$?
    runs=$((runs + 1))
    case $code in
      0) ;;
      1 | 2)
        refused=$((refused + 1))
        grep -q '^linnet: ' "$work/err" || fault "$what in $kib KiB says nothing (code $code)"
        ;;
      *) fault "$what in $kib KiB ends with code $code" ;;
    esac
    case $what in inspect | chat) ;; *) check_folder $what "$work/memory" $code "" ;; esac
  done
done
say_counts "35 memory limits from $least KiB ($refused runs refused)"

# Kills at random moments.
for signal in KILL INT TERM; do
  reset_counts
  ended=0
  for writer in $writers; do
    set_command $writer "$work/good.$writer.again"
    start=$(date +%s%N)
    "$linnet" "${command[@]}" > /dev/null 2> "$work/err"
    lasts=$((($(date +%s%N) - start) / 1000))
    for round in $(seq "$rounds"); do
      rm -rf "$work/kill"
      mkdir "$work/kill"
      before=""
      if [ $((round % 2)) = 0 ] && [ $writer != prefix ]; then before=$work/old; cp "$before" "$work/kill/out"; fi
      set_command $writer "$work/kill/out"
      # The shell starts what runs beside it without the interrupt.
      env --default-signal=INT "$linnet" "${command[@]}" > /dev/null 2> "$work/err" &
      pid=$!
      sleep "$(awk -v s=$RANDOM -v t=$lasts 'BEGIN { printf "%.6f", s / 32768 * t / 1e6 }')"
      kill -s $signal $pid 2> /dev/null
      wait $pid 2> /dev/null
      code=$?
      runs=$((runs + 1))
      case $code in
        0) ;;
        137 | 143 | 130) ended=$((ended + 1)) ;;
        *) fault "$writer after SIG$signal ends with code $code" ;;
      esac
      check_folder $writer "$work/kill" $code "$before"
    done
  done
  say_counts "SIG$signal ($ended runs ended by it)"
done

# Two at once for one path.
reset_counts
for writer in convert save run image; do
  for round in $(seq 50); do
    rm -rf "$work/rivals"
    mkdir "$work/rivals"
    set_command $writer "$work/rivals/out"
    "$linnet" "${command[@]}" > /dev/null 2> "$work/err" &
    one=$!
    "$linnet" "${command[@]}" > /dev/null 2> "$work/err.2"
    other=$?
    wait $one || fault "$writer beside a rival fails"
    [ $other = 0 ] || fault "$writer beside a rival fails with code $other"
    runs=$((runs + 1))
    check_folder $writer "$work/rivals" 0 ""
  done
done
say_counts "two writers of one path"

echo "$faults faults"
[ $faults = 0 ]
