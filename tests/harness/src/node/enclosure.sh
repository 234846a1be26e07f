# The first process of an enclosure: lays out its mounts and its network, and then reaps whatever is left to it. When it ends, the
# kernel ends every other process in there and takes mounts, interfaces and packet filters away.
# $1 the folder of the enclosure, $2 what lies over /usr, $3 the checkout, $4 the address of the node with its length
set -e
trap 'exit 0' TERM
folder=$1 usr=$2 checkout=$3 address=$4

# What programs write into the machine's own folders goes to memory. The checkout stays what it is, wherever it lies.
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p /run/enclosure/checkout /run/enclosure/upper /run/enclosure/work /run/netns /run/sockets /run/kubelet
mount --rbind "$checkout" /run/enclosure/checkout
mount -t overlay -o lowerdir=/var,upperdir=/run/enclosure/upper,workdir=/run/enclosure/work overlay /var
mount -t overlay -o "lowerdir=$usr:/usr" overlay /usr
mount --rbind /run/enclosure/checkout "$checkout"

# A kubelet tunes the kernel that it runs on. Here it tunes files, and the machine's kernel stays as it was.
while read -r name value; do
  [ -e "/proc/sys/$name" ] || continue
  mkdir -p "/run/enclosure/tuned/${name%/*}"
  echo "$value" >"/run/enclosure/tuned/$name"
  mount --bind "/run/enclosure/tuned/$name" "/proc/sys/$name"
done <<END
vm/overcommit_memory 1
vm/panic_on_oom 0
kernel/panic 10
kernel/panic_on_oops 1
kernel/keys/root_maxkeys 1000000
kernel/keys/root_maxbytes 25000000
END

# An address that is not loopback, and a way to addresses that only the service proxy knows.
ip link set lo up
ip link add node0 type veth peer name node1
ip address add "$address" dev node0
ip link set node0 up
ip link set node1 up
ip route add default dev node0
echo 1 >/proc/sys/net/ipv4/ip_forward

: >"$folder/laid-out"
while :; do
  sleep 3600 &
  wait $! || :
done
