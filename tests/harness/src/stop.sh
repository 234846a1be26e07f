# Ends every process of a run and removes its folder. With "watch" it first waits until its standard input closes, which
# happens when whoever holds the other end is gone, in whatever way; the word "keep" on it sends the watcher away instead.
# A process is ended only if it is still the one that was started: by pid and start time. The script `after` of the run, if there is
# one, then removes what lies outside of the folder, and so goes the folder of its sockets.
run=$1
trap '' HUP INT TERM
if [ "$2" = watch ]; then
  while read -r word; do [ "$word" = keep ] && exit 0; done
fi
alive() {
  now=$(cut -d ' ' -f 3,22 "/proc/$1/stat" 2>/dev/null)
  [ "${now#* }" = "$2" ] && [ "${now% *}" != Z ]
}
while read -r pid start _; do alive "$pid" "$start" && kill -s TERM -- "-$pid"; done <"$run/processes"
tries=0
while read -r pid start _; do
  while alive "$pid" "$start"; do
    tries=$((tries + 1))
    [ $tries -gt 60 ] && { kill -s KILL -- "-$pid"; break; }
    sleep 0.05
  done
done <"$run/processes"
[ -f "$run/after" ] && sh "$run/after"
[ -L "$run/sockets" ] && rm -rf "$(readlink "$run/sockets")"
# A command that somebody was still running may write into the folder until it notices.
tries=0
while ! rm -rf "$run" 2>/dev/null && [ $tries -lt 40 ]; do
  tries=$((tries + 1))
  sleep 0.05
done
[ ! -e "$run" ]
