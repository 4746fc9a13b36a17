#!/bin/bash
# tour.sh: the main thing, as an ordinary user sees it.  Needs stillpoint on PATH, and sudo for it.
set -euo pipefail
examples=$(dirname "$(command -v stillpoint)")/../libexec/stillpoint/examples
work=$(mktemp -d /tmp/stillpoint-tour.XXXXXX)
cd "$work"
job=tour-$$
trap 'status=$?; [ -z "${pid-}" ] || sudo kill -TERM "$pid" 2>/dev/null || true; cd /; [ $status = 0 ] && rm -rf "$work" || echo "see $work"' EXIT
say() { printf '\n\033[1m%s\033[0m\n' "$*"; }
give_up() { echo "tour: $*" >&2; exit 1; }
heat() { echo "$examples/heat2d" --size 1200 --iterations 6000 --every 500; }

say "1. An uninterrupted run of heat2d, 4 ranks: the result to compare with"
sudo stillpoint run -n 4 --name "$job-reference" -- $(heat) | tee reference.out | tail -n 1

say "2. The same, with a checkpoint every 2 seconds"
sudo stillpoint run -n 4 --name "$job" --checkpoint-interval 2s -- $(heat) > first.out 2> first.err &
pid=$!
for _ in $(seq 300); do
  [ "$(grep -c 'is permanent' first.err)" -lt 2 ] || break
  kill -0 "$pid" 2>/dev/null || give_up "the job ended before its second checkpoint: $(cat first.err)"
  sleep 0.1
done
cat first.err
echo "... the last line it printed: $(tail -n 1 first.out)"

say "3. SIGKILL for the whole container, in mid-run"
sudo kill -KILL "$(sudo stillpoint status "$job" --json | jq .jobs[0].init_pid)"
status=0; wait "$pid" || status=$?; pid=''
tail -n 2 first.err
echo "exit status $status"
[ "$status" = 137 ] || give_up "expected exit status 137"

say "4. What is there to restart from"
stillpoint list

say "5. Restarted from the latest checkpoint"
sudo stillpoint restart "$job" | tee second.out

say "6. The result"
echo "uninterrupted: $(tail -n 1 reference.out)"
echo "restarted:     $(tail -n 1 second.out)"
[ "$(tail -n 1 reference.out)" = "$(tail -n 1 second.out)" ] || give_up "the results differ"
echo "They are equal."
