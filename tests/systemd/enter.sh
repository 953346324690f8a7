#!/bin/bash
# enter.sh WORK LOWER [DIRECTORY=PLACE]...: become systemd as PID 1 of the namespaces that this runs in, over a
# throw-away overlay of LOWER. Each DIRECTORY is seen at PLACE, read-only. box.py calls it, nobody else.
set -euo pipefail
work=$1 lower=$2
shift 2

mount -t tmpfs -o size=4g box "$work"
mkdir "$work"/{upper,work,root}
mount -t overlay box -o "lowerdir=$lower,upperdir=$work/upper,workdir=$work/work" "$work/root"
cd "$work/root"

mount -t proc proc proc
mount -t sysfs -o ro sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount --bind proc/sys proc/sys
mount --bind proc/sys/net proc/sys/net
mount -o remount,bind,ro proc/sys
mount -t tmpfs -o mode=755 tmpfs run
mount -t tmpfs -o mode=1777 tmpfs tmp
# podman's overlay cannot lie on another overlay.
mkdir -p var/lib/containers "$work-home"
mount -t tmpfs tmpfs var/lib/containers
mount --bind "$work-home" home

mount -t tmpfs -o mode=755 tmpfs dev
mkdir dev/pts dev/shm
for name in null zero full random urandom tty fuse; do
    [[ ! -e /dev/$name ]] || { touch "dev/$name" && mount --bind "/dev/$name" "dev/$name"; }
done
mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts dev/pts
mount -t tmpfs -o mode=1777 tmpfs dev/shm
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
ln -s fd/0 dev/stdin
ln -s fd/1 dev/stdout
ln -s fd/2 dev/stderr

for pair in "$@"; do
    mkdir -p ".${pair#*=}"
    mount --bind -o ro "${pair%%=*}" ".${pair#*=}"
done

# A machine's own duties, which would wait for what is not here.
mkdir -p etc/systemd/system
for unit in systemd-sysctl systemd-modules-load systemd-binfmt systemd-remount-fs systemd-tmpfiles-setup-dev \
    systemd-journal-flush getty@ console-getty apt-daily apt-daily-upgrade; do
    ln -sf /dev/null "etc/systemd/system/$unit.service"
done
cat >etc/systemd/system/box.target <<END
[Unit]
Requires=basic.target
Wants=dbus.socket systemd-journald.service
After=basic.target dbus.socket
AllowIsolate=yes
END

ip link set lo up
mkdir .old
pivot_root . .old
cd /
umount -l /.old
rmdir /.old
exec env -i container=box PATH=/usr/sbin:/usr/bin:/sbin:/bin TERM=dumb \
    /lib/systemd/systemd --system --unit=box.target --log-target=journal-or-kmsg --show-status=no
