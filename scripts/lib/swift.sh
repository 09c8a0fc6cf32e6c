# shellcheck shell=bash
# Sourced after setup.sh by the verbs that need Swift: the machine's own where that is new enough, else that of a Debian
# folder.
. scripts/lib/debian.sh

SWIFT=trixie-1 # another number when the list of packages changes
SWIFT_PACKAGES=swiftlang,libc6-dev,gcc,g++,git,libxml2-dev,libcurl4-openssl-dev,zlib1g-dev,binutils,ca-certificates
SWIFT_LEAST=6.0

need_swift() {
  local version
  # An older swift knows no `swift format`.
  if have swift && version=$(swift --version 2>/dev/null | sed -n 's/.*Swift version \([0-9.]*\).*/\1/p' | head -n 1) &&
    at_least "$version" "$SWIFT_LEAST" && swift format --version >/dev/null 2>&1; then
    SWIFT=
    return
  fi
  need_debian "$SWIFT" "$SWIFT_PACKAGES"
}

# in_swift FOLDER... -- [VARIABLE=VALUE...] COMMAND... : runs it where Swift is, from the repo.
in_swift() {
  if [[ -n $SWIFT ]]; then
    in_debian "$SWIFT" "$@"
    return
  fi
  while [[ $1 != -- ]]; do shift; done
  shift
  env "$@"
}
