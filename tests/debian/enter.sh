#!/bin/bash
# enter.sh ROOT VENV CHECKOUT COMMAND...: run a command as root of a throw-away overlay of ROOT, in the namespaces that this
# runs in. It sees CHECKOUT at /podbridge, its changes to which are thrown away too, and VENV at /venv, where they stay.
# run.sh calls it, and nothing else does.
set -euo pipefail
root=$1 venv=$2 checkout=$3
shift 3

work=$root.at
mkdir -p "$work"
mount -t tmpfs -o mode=755 newest "$work"
mkdir "$work"/{upper,work,root,checkout,checkout-work}
mount -t overlay newest -o "lowerdir=$root,upperdir=$work/upper,workdir=$work/work" "$work/root"
cd "$work/root"
mkdir -p podbridge venv
mount -t overlay checkout -o "lowerdir=$checkout,upperdir=$work/checkout,workdir=$work/checkout-work" podbridge
mount --bind "$venv" venv

mount -t proc proc proc
mount -t sysfs -o ro sysfs sys 2>/dev/null || mount --rbind /sys sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount --rbind /dev dev
mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts dev/pts
mount -t tmpfs -o mode=1777 tmpfs dev/shm
mount -t tmpfs -o mode=755 tmpfs run
# podman's overlay cannot lie on another overlay.
mkdir -p var/lib/containers
for place in tmp var/tmp var/lib/containers; do
    mount -t tmpfs -o mode=1777 tmpfs "$place"
done
# What pip needs to reach the index that this machine uses.
mount --bind -o ro /etc/ssl/certs etc/ssl/certs
cp -L /etc/resolv.conf /etc/hosts etc/
[[ ! -e /etc/pip.conf ]] || cp /etc/pip.conf etc/

ip link set lo up
mkdir .old
pivot_root . .old
cd /podbridge
umount -l /.old
rmdir /.old
# Not exec: as PID 1 this shell reaps what others leave behind.
"$@"
