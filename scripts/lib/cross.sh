# shellcheck shell=bash
# Sourced after setup.sh by the verbs that compile for phones without an SDK: a folder with a newer Debian has Rust with
# the source of its std, and clang and lld, which know every target.
. scripts/lib/debian.sh

CROSS=forky-1 # another number when the list of packages changes
CROSS_PACKAGES=rustc,cargo,rust-src,libstd-rust-dev,clang,lld,llvm,gcc,libc6-dev
CROSS_RUST=1.97 # its warnings are errors; those of others are only shown
CROSS_WARNINGS=warn

need_cross() {
  local rust
  need_debian "$CROSS" "$CROSS_PACKAGES"
  CROSS_TARGET=$(realpath -m "${CARGO_TARGET_DIR:-$CACHE/phones}")
  CARGO_HOME=$(realpath -m "${CARGO_HOME:-$HOME/.cargo}")
  mkdir -p "$CROSS_TARGET" "$CARGO_HOME"
  rust=$(in_cross rustc --version)
  [[ $rust != "rustc $CROSS_RUST."* ]] || CROSS_WARNINGS=deny
}

# in_cross COMMAND... : runs it in the folder as the caller. The repo, cargo's downloads and the target folder are at
# their own paths there.
in_cross() {
  in_debian "$CROSS" "$CARGO_HOME" "$CROSS_TARGET" -- http_proxy="${http_proxy-}" https_proxy="${https_proxy-}" \
    CARGO_HOME="$CARGO_HOME" CARGO_TARGET_DIR="$CROSS_TARGET" CARGO_BUILD_WARNINGS="$CROSS_WARNINGS" \
    RUSTC_BOOTSTRAP=1 "$@"
}
