# shellcheck shell=bash
# Sourced after setup.sh: folders of other Debian releases, for tools that this machine has not. Each is made once by
# mmdebstrap and kept in the cache; its name is RELEASE-NUMBER, with another number when its list of packages changes.

skip() {
  say "SKIP ${0##*/}: $*"
  exit 0
}

# need_debian NAME PACKAGE,... : makes the folder if it is not there.
need_debian() {
  as_root true 2>/dev/null || skip "neither root nor sudo without a password"
  as_root unshare --mount --propagation private true 2>/dev/null || skip "no mount namespaces"
  need_apt mmdebstrap /usr/share/keyrings/debian-archive-keyring.gpg=debian-archive-keyring \
    /etc/ssl/certs/ca-certificates.crt=ca-certificates
  cached "$1" build_debian "$1" "$2" || die "no Debian folder to work in"
}

# In a mount namespace of its own, so that nothing stays mounted in a half-made folder. A release file past its date is
# still a signed one.
build_debian() {
  as_root unshare --mount --propagation private \
    mmdebstrap --quiet --mode=root --variant=minbase --include="$3" \
    --aptopt='APT::Install-Recommends "false"' --aptopt='Acquire::Check-Valid-Until "false"' \
    --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
    --dpkgopt='path-exclude=/usr/share/locale/*' "${2%-*}" "$1" >&2
}

# in_debian NAME FOLDER... -- [VARIABLE=VALUE...] COMMAND... : runs it there as the caller, from the repo. The repo and
# the folders are at their own paths.
in_debian() {
  local folders=() name=$1
  shift
  while [[ $1 != -- ]]; do
    folders+=("$1")
    shift
  done
  shift
  as_root unshare --mount --propagation private scripts/lib/enter "$CACHE/$name" "$(id -u):$(id -g)" \
    "$PWD" "${folders[@]}" -- \
    env -i PATH=/usr/bin:/bin HOME=/tmp LANG=C.UTF-8 TERM="${TERM-}" "$@"
}

# stage NAME COMMAND... : says how long it took.
stage() {
  local name=$1 began=$SECONDS
  shift
  "$@"
  say "$name: $((SECONDS - began)) s"
}
