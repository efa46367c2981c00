#!/bin/sh
# Written by `mmdoctor hook slurm`: keeps jobs off this node while an environment is broken.
#
# In slurm.conf, as the one or as both:
@conf@
#
# Both: where the environment is broken, the node is drained with a reason that begins with `mmdoctor:`. What an admin
# drained stays as it is. Where mmdoctor came to no verdict (a crash, a timeout), that is logged and nothing is changed.
# HealthCheckProgram: also takes back a drain of its own once the environment is healthy; always exits 0, since slurmd
# waits for that before it registers.
# Prolog ($SLURM_JOB_ID is set): also exits 1 where the environment is broken, and Slurm requeues the job.

mmdoctor=@mmdoctor@
environment=@env@
scontrol=@scontrol@
cached=@cached@
strict=@strict@

# Slurm sets no PATH.
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export PATH
node=${SLURMD_NODENAME:-$(hostname -s)}
# Is there while the controller is known to hold no drain of ours: a healthy node then does not ask it.
clear=/run/mmdoctor/slurm-clear-$node

say() {
    echo "mmdoctor: $1" >&2
    if command -v logger >/dev/null; then logger -t mmdoctor -- "$1"; fi
}

control() {
    timeout -k 1 5 "$scontrol" "$@"
}

# mmdoctor starts the environment's interpreter. What that runs, its owner decides, and so it runs as its owner; where
# nobody can say who that is (a dead file system, one that keeps root out) there is no verdict.
look() {
    owner=$(LC_ALL=C timeout -k 1 @outer@ stat -L -c %u:%g "$environment" 2>&1) || case $owner in
    *"No such file or directory") owner=0:0 ;;
    *) echo "${owner:-stat does not answer}"; return 3 ;;
    esac
    set -- timeout -k 1 @outer@ "$mmdoctor" check --quick --cached "$cached" --deadline @deadline@ --env "$environment"
    if [ "${owner%:*}" = 0 ] || [ "$(id -u)" != 0 ]; then
        "$@"
    else
        home=$(getent passwd "${owner%:*}" | cut -d: -f6)
        HOME=${home:-/} setpriv --reuid "${owner%:*}" --regid "${owner#*:}" --clear-groups "$@"
    fi
}

# The roots of what is wrong (`FAIL  XTC001  …`, and below it what was seen), on one line of plain characters.
roots() {
    awk '/^FAIL /{ids = ids (ids ? "," : "") $2; if (!seen) {getline; sub(/^ +/, ""); seen = $0}}
         END {if (ids) printf "mmdoctor:%s %s", ids, seen}' |
        LC_ALL=C tr -c '[:print:]' ' ' | LC_ALL=C tr -d "\"\\\\\`" | cut -c 1-120 | sed 's/ *$//'
}

said=$(look 2>&1)
status=$?
# A Python that does not start ends with 1 as well: only a finding beside it is a verdict.
case $status in
0) verdict=healthy reason= ;;
1) reason=$(printf '%s\n' "$said" | roots); verdict=${reason:+broken} ;;
*) verdict= ;;
esac
if [ -z "$verdict" ]; then
    last=$(printf '%s\n' "$said" | grep -v '^ *$' | tail -n 1)
    say "no verdict on $environment (exit status $status): $last"
    if [ "$strict" = no ]; then exit 0; fi
    reason="mmdoctor:undetermined exit status $status"
fi

leave() {
    if [ -n "$reason" ] && [ -n "$SLURM_JOB_ID" ]; then exit 1; fi
    exit 0
}

if [ -z "$reason" ] && [ -e "$clear" ]; then exit 0; fi
rm -f "$clear"
shown=$(control show node "$node") || { say "the controller does not answer for $node"; leave; }
if printf '%s\n' "$shown" | grep -q '^ *State=[^ ]*DRAIN'; then
    # Without who and when: `Reason=text [root@2026-11-21T20:00:00]`.
    held=$(printf '%s\n' "$shown" | sed -n 's/^ *Reason=//p' | sed 's/ \[[^][ ]*@[^][ ]*\]$//')
    held=${held:-not said}
else
    held=
fi

case $held in
mmdoctor:* | '')
    if [ "$held" = "$reason" ]; then
        :
    elif [ -n "$reason" ]; then
        if control update NodeName="$node" State=DRAIN Reason="$reason"; then
            say "drained $node: $reason"
        else
            say "cannot drain $node: $reason"
        fi
    # UNDRAIN and not RESUME, which would also bring back a node that somebody set DOWN.
    elif control update NodeName="$node" State=UNDRAIN; then
        say "undrained $node: $environment is healthy again"
    else
        say "cannot undrain $node"
        leave
    fi
    ;;
esac
if [ -z "$reason" ]; then mkdir -p "${clear%/*}" && : >"$clear"; fi
leave
