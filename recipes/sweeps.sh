# What the studies share: many runs that differ in a few settings, one a core or one a job, and repeated by no second
# start. Each study sources it and calls
#   begin_sweeps RUN_DIR "$@"     RUN_DIR unless there is a run_dir=...; three seeds and joblib unless others are given;
#                                 a clip.max_norm=... is kept apart, in $max_norm: not every strategy has one
#   sweep SUBDIR key=value,...    trains; each run's folder is its cell's, without the number of steps, so that a
#                                 larger trainer.max_steps prolongs it
#   last_override KEY             the value that counts
#   finish STUDY                  prints what python -m separation.studies STUDY RUN_DIR makes of the runs, and ends

begin_sweeps() {
    local default=$1 override
    shift
    overrides=() status=0 max_norm=
    for override in "$@"; do
        case $override in
            clip.max_norm=*) max_norm=${override#*=} ;;
            *) overrides+=("$override") ;;
        esac
    done
    [[ " $* " == *" run_dir="* ]] || overrides+=(run_dir="$default")
    [[ " $* " == *" seed="* ]] || overrides+=(seed=0,1,2)
    [[ " $* " == *" hydra/launcher="* ]] || overrides+=(hydra/launcher=joblib)
    cd "$(dirname "$0")/../.."
    root=$(last_override run_dir)
}

last_override() {
    printf '%s\n' "${overrides[@]}" | sed -n "s/^$1=//p" | tail -n 1
}

sweep() {
    local result=0
    python train.py --multirun hydra.sweep.subdir="$1" threads=1 \
        trainer.resume=true "${@:2}" "${overrides[@]}" || result=$?
    ((result < 128)) || exit "$result" # a signal has stopped it
    status=$((result > status ? result : status))
}

finish() {
    python -m separation.studies "$1" "$root" || status=$?
    exit "$status"
}
