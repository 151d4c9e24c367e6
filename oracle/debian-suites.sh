#!/usr/bin/env bash
# Packages of other Debian suites (bullseye to experimental), without touching this system's own apt configuration.
#
#   debian-suites.sh versions PACKAGE...                     what can be had
#   debian-suites.sh get DIR PACKAGE[=VERSION]...            download binary packages and unpack them below DIR
#   debian-suites.sh kernel DIR PACKAGE[=VERSION|/SUITE]     the same for a linux-image package and the packages that hold its parts
#   debian-suites.sh source DIR PACKAGE[=VERSION] [PATH...]  download the upstream source and unpack it below DIR, or only these paths of it
#   debian-suites.sh root DIR SUITE PACKAGE...               install packages into a root of that suite below DIR (root only)
#   debian-suites.sh drop DIR                                delete such a root: never by rm, for it holds this system's /dev
#
# Needs apt and dpkg; `root` needs debootstrap. SUITE may be a -backports one. The mirror is the one that this system's apt names, or
# DEBIAN_MIRROR; a mirror that lags lists versions that it no longer has (404). Lists and packages are kept in DEBIAN_SUITES_STATE.
set -euo pipefail

state=${DEBIAN_SUITES_STATE:-${XDG_CACHE_HOME:-$HOME/.cache}/vcpuid-oracle/debian}
keyring=/usr/share/keyrings/debian-archive-keyring.gpg
suites=(bullseye bookworm bookworm-backports trixie trixie-backports forky sid experimental)

usage() {
  sed -n '4,9s/^# *//p' "$0" >&2
  exit 2
}

fail() {
  echo "debian-suites.sh: $1" >&2
  exit "$2"
}

# The mirror of this system's own sources, in either of apt's forms.
mirror() {
  if [[ -n ${DEBIAN_MIRROR:-} ]]; then
    echo "$DEBIAN_MIRROR"
  else
    { cat /etc/apt/sources.list.d/*.sources /etc/apt/sources.list 2>/dev/null || true; } |
      awk 'found {next} $1 == "URIs:" {found = $2} $1 == "deb" {for (i = NF; i > 1; i--) if ($i ~ /^[a-z]+:/) found = $i} END {print found}'
  fi
}

# apt-get or apt-cache with lists of their own. As root they would complain that the sandbox user cannot write below DIR.
apt() {
  local tool=$1
  shift
  "$tool" -o Dir::Etc::sourcelist="$state/sources.list" -o Dir::Etc::sourceparts=- -o Dir::State::lists="$state/lists" \
    -o Dir::Cache="$state/cache" -o APT::Sandbox::User=root "$@"
}

prepare() {
  local uri suite
  [[ -s $state/ready ]] && return
  command -v apt-get >/dev/null || fail 'apt-get is not installed' 4
  uri=$(mirror)
  [[ -n $uri ]] || fail 'no mirror: set DEBIAN_MIRROR' 4
  mkdir -p "$state/lists/partial" "$state/cache/archives/partial"
  for suite in "${suites[@]}"; do
    printf 'deb [signed-by=%s] %s %s main\ndeb-src [signed-by=%s] %s %s main\n' "$keyring" "$uri" "$suite" "$keyring" "$uri" "$suite"
  done >"$state/sources.list"
  apt apt-get -qq update >&2 || fail 'the lists of packages are not to be had' 4
  echo "$uri" >"$state/ready"
}

get() {
  local dir=$1 deb
  shift
  mkdir -p "$dir/deb"
  (cd "$dir/deb" && apt apt-get -qq download "$@" >&2) || fail "not to be had: $*" 4
  for deb in "$dir"/deb/*.deb; do dpkg -x "$deb" "$dir"; done
}

# What a kernel's packages depend on: linux-image-cloud-amd64 on the newest linux-image-RELEASE, and since 7.3 that on packages with the
# image and the modules.
kernel_parts() {
  local deb
  for deb in "$1"/deb/*.deb; do dpkg-deb -f "$deb" Depends; done | tr ',|' '\n' | awk '/^ *linux-(image|binary|modules)-/ {print $1}' | sort -u
}

kernel() {
  local dir=$1 part more=1
  get "$dir" "$2"
  while [[ $more == 1 ]]; do
    more=0
    for part in $(kernel_parts "$dir"); do
      if ! compgen -G "$dir/deb/${part}_*" >/dev/null; then
        get "$dir" "$part"
        more=1
      fi
    done
  done
}

source_of() {
  local dir=$1 package=$2 tar paths=()
  shift 2
  [[ $# -eq 0 ]] || paths=(--wildcards --no-wildcards-match-slash "${@/#/*/}")
  mkdir -p "$dir"
  cd "$dir"
  apt apt-get -qq source --tar-only --download-only "$package" >&2 || fail "not to be had: the source of $package" 4
  for tar in *.orig.tar.*; do
    [[ $tar == *.asc ]] || tar xf "$tar" "${paths[@]}"
  done
}

root() {
  local dir suite=$2 base=${2%-backports} uri file
  dir=$(realpath -m "$1")
  shift 2
  command -v debootstrap >/dev/null || fail 'debootstrap is not installed' 4
  uri=$(mirror)
  mkdir -p "$dir"
  [[ -x $dir/usr/bin/dpkg ]] || debootstrap --variant=minbase --include=ca-certificates "$base" "$dir" "$uri" >&2
  {
    echo "deb $uri $base main"
    [[ $suite == "$base" ]] || echo "deb $uri $suite main"
  } >"$dir/etc/apt/sources.list"
  # How this system reaches the mirror: proxies, certificates.
  cp /etc/apt/apt.conf.d/* "$dir/etc/apt/apt.conf.d/" 2>/dev/null || true
  for file in resolv.conf hosts; do cp "/etc/$file" "$dir/etc/"; done
  for file in dev dev/pts proc sys; do
    [[ ! -d /$file ]] || mountpoint -q "$dir/$file" || mount --bind "/$file" "$dir/$file"
  done
  chroot "$dir" apt-get -qq update >&2
  DEBIAN_FRONTEND=noninteractive chroot "$dir" apt-get -qq install -y --no-install-recommends -t "$suite" "$@" >&2
}

drop() {
  local file
  for file in dev/pts dev proc sys; do
    if mountpoint -q "$1/$file"; then umount "$1/$file"; fi
    if mountpoint -q "$1/$file"; then fail "$1/$file is still mounted" 4; fi
  done
  rm -rf --one-file-system "$1"
}

case ${1:-}:$# in
  versions:[2-9]*) shift; prepare; apt apt-cache madison "$@" | awk -F'|' '{gsub(/ /, ""); print $1, $2}' | sort -u -V ;;
  get:[3-9]* | get:??*) shift; prepare; get "$@" ;;
  kernel:3) shift; prepare; kernel "$@" ;;
  source:[3-9]* | source:??*) shift; prepare; source_of "$@" ;;
  root:[4-9]* | root:??*) shift; root "$@" ;;
  drop:2) shift; drop "$@" ;;
  *) usage ;;
esac
