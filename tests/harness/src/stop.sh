# Ends every process of a run and removes its folder. With "watch" it first waits until its standard input closes, which
# happens when whoever holds the other end is gone, in whatever way. A process is ended only if it is still the one that was
# started: by pid and start time.
run=$1
trap '' HUP INT TERM
[ "$2" = watch ] && while read -r _; do :; done
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
tries=0
while ! rm -rf "$run" 2>/dev/null && [ $tries -lt 40 ]; do
  tries=$((tries + 1))
  sleep 0.05
done
