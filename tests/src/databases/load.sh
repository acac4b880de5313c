# shellcheck shell=sh
# Writes the numbers from $1 on, each in a transaction of its own, to the client that is $2 until it is told to
# stop; $3 is the statement. The pauses leave the machine some air: about 1000 a second.
n=$1
rm -f /tmp/load-stop /tmp/load-ended
{
  while [ ! -e /tmp/load-stop ]; do
    # shellcheck disable=SC2059 # the statement has the place of its number
    printf "$3\n" "$n"
    n=$((n + 1))
    if [ $((n % 20)) -eq 0 ]; then sleep 0.02; fi
  done
} | sh -c "$2" >/tmp/load-output 2>&1
echo "$?" > /tmp/load-ended.new
mv /tmp/load-ended.new /tmp/load-ended
