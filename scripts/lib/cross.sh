# shellcheck shell=bash
# Sourced after setup.sh by the verbs that compile for phones without an SDK: a folder with a newer Debian has Rust with
# the source of its std, and clang and lld, which know every target.

CROSS=forky-1 # another number when the list of packages changes
CROSS_PACKAGES=rustc,cargo,rust-src,libstd-rust-dev,clang,lld,llvm,gcc,libc6-dev
CROSS_RUST=1.97 # its warnings are errors; those of others are only shown
CROSS_WARNINGS=warn

need_cross() {
  local rust
  as_root true 2>/dev/null || skip "neither root nor sudo without a password"
  as_root unshare --mount --propagation private true 2>/dev/null || skip "no mount namespaces"
  need_apt mmdebstrap /usr/share/keyrings/debian-archive-keyring.gpg=debian-archive-keyring \
    /etc/ssl/certs/ca-certificates.crt=ca-certificates
  cached "$CROSS" build_cross || die "no Debian folder to compile in"
  CROSS_TARGET=$(realpath -m "${CARGO_TARGET_DIR:-$CACHE/phones}")
  CARGO_HOME=$(realpath -m "${CARGO_HOME:-$HOME/.cargo}")
  mkdir -p "$CROSS_TARGET" "$CARGO_HOME"
  rust=$(in_cross rustc --version)
  [[ $rust != "rustc $CROSS_RUST."* ]] || CROSS_WARNINGS=deny
}

skip() {
  say "SKIP ${0##*/}: $*"
  exit 0
}

# In a mount namespace of its own, so that nothing stays mounted in a half-made folder. A release file past its date is
# still a signed one.
build_cross() {
  as_root unshare --mount --propagation private \
    mmdebstrap --quiet --mode=root --variant=minbase --include="$CROSS_PACKAGES" \
    --aptopt='APT::Install-Recommends "false"' --aptopt='Acquire::Check-Valid-Until "false"' \
    --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
    --dpkgopt='path-exclude=/usr/share/locale/*' "${CROSS%-*}" "$1" >&2
}

# in_cross COMMAND... : runs it in the folder as the caller. The repo, cargo's downloads and the target folder are at
# their own paths there.
in_cross() {
  as_root unshare --mount --propagation private scripts/lib/enter "$CACHE/$CROSS" "$(id -u):$(id -g)" \
    "$PWD" "$CARGO_HOME" "$CROSS_TARGET" -- \
    env -i PATH=/usr/bin:/bin HOME=/tmp LANG=C.UTF-8 TERM="${TERM-}" http_proxy="${http_proxy-}" \
    https_proxy="${https_proxy-}" CARGO_HOME="$CARGO_HOME" CARGO_TARGET_DIR="$CROSS_TARGET" \
    CARGO_BUILD_WARNINGS="$CROSS_WARNINGS" RUSTC_BOOTSTRAP=1 "$@"
}

# stage NAME COMMAND... : says how long it took.
stage() {
  local name=$1 began=$SECONDS
  shift
  "$@"
  say "$name: $((SECONDS - began)) s"
}
