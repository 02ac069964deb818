#!/usr/bin/env bash
# Runs a command, whose latest line of output stands in one line of the terminal; if it fails, all of its output follows.
#   scripts/in_one_line.sh "Installing" pip install ...
set -uo pipefail
title=$1 log=$(mktemp)
shift
trap 'rm -f "$log"' EXIT
began=$SECONDS
if [[ -t 1 ]]; then
    "$@" 2>&1 | tee "$log" | while IFS= read -r line; do
        line=${line//[$'\r\t']/ }
        printf '\r\033[K%s, %d s: %s' "$title" $((SECONDS - began)) "${line:0:$((${COLUMNS:-80} - ${#title} - 12))}"
    done
    status=$?
    printf '\r\033[K'
else
    "$@" > "$log" 2>&1
    status=$?
fi
((status)) && cat "$log"
echo "$title: $( ((status)) && echo failed || echo done), $((SECONDS - began)) s"
exit "$status"
