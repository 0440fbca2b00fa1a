# Says what a script does and how long it took. Sourced, not run.
# shellcheck shell=bash

LINNET_STEP= LINNET_STEP_BEGAN=0 LINNET_STEPS=()

# Ends the step before, if there was one.
step() {
  end_step
  LINNET_STEP=$1 LINNET_STEP_BEGAN=$SECONDS
  echo "== $1"
}
end_step() {
  if [ -z "$LINNET_STEP" ]; then return 0; fi
  LINNET_STEPS+=("$(printf '%6d s  %s' $((SECONDS - LINNET_STEP_BEGAN)) "$LINNET_STEP")")
  echo "${LINNET_STEPS[-1]}"
  LINNET_STEP=
}
# What was done, step by step, at the end.
report_steps() {
  end_step
  echo "== done in $SECONDS s"
  printf '%s\n' "${LINNET_STEPS[@]}"
}
