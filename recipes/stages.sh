# What the recipes of single corpora share; each sources it and calls
#   begin "$@"            reads: CORPUS_FOLDER [--stage N] [key=value ...]
#   stage NUMBER COMMAND  runs a command, unless an earlier run got further (--stage N begins with the N-th)
#   check_train_evaluate data=... data.root=...
# After `begin`: root, the corpus's folder; overrides, what is passed on to train.py; data_overrides, those of them that
# say what the corpus is; run_dir, if it was given.

usage() {
    echo "usage: $0 CORPUS_FOLDER [--stage N] [key=value ...]" >&2
    sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$0" >&2
    exit 2
}

begin() {
    root='' first=1 overrides=() data_overrides=() run_dir=''
    while (($#)); do
        case $1 in
            --stage) [[ ${2:-} == [1-9] ]] || usage; first=$2; shift ;;
            data.* | mixing.*) data_overrides+=("$1"); overrides+=("$1") ;;
            run_dir=*) run_dir=${1#run_dir=} ;;
            *=*) overrides+=("$1") ;;
            -*) usage ;;
            *) [[ -z $root ]] || usage; root=$(realpath -m -- "$1") ;;
        esac
        shift
    done
    [[ -n $root ]] || usage
    recipe=$(basename "$(dirname "$(realpath "$0")")")
    cd "$(dirname "$0")/../.."
}

stage() {
    local number=$1
    shift
    ((number < first)) && return
    echo "stage $number: $*"
    "$@"
}

check_train_evaluate() {
    local run_dir=${run_dir:-runs/$recipe}
    stage 2 python scripts/check_data.py "$@" "${data_overrides[@]}" output="$run_dir/check"
    stage 3 python train.py "$@" run_dir="$run_dir" trainer.resume=true "${overrides[@]}"
    stage 4 python evaluate.py run="$run_dir" output="$run_dir/bss_eval" bss_eval=true metrics=torch
}
