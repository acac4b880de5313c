# shellcheck shell=sh
# A setting, or the file that holds it, as the official images have it.
# shellcheck disable=SC2034 # eval uses it
file_env() {
  eval "file=\${$1_FILE:-} value=\${$1:-}"
  if [ -n "$file" ]; then value=$(cat "$file"); fi
  eval "$1=\$value"
}
