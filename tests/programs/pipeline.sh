#!/bin/bash
# pipeline.sh FILE: a rank that is a shell pipeline.  Counts slowly; waits at 20 until FILE exists.
set -o pipefail
seq 1 40 | while read -r i; do
  echo "line $i of rank $PMIX_RANK"
  if [ "$i" = 20 ]; then
    echo "half way" >&2
    for ((n = 0; n < 1200; n++)); do
      [ -e "$1" ] && break
      sleep 0.1
    done
  fi
done | tee >(wc -l >&2) | sha256sum
