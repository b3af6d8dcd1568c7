# The private engine's programs: Debian packages, downloaded with the machine's own sources and unpacked.

prepare_apt() {  # a private copy of apt's state; the machine's sources and transport settings carry over
  local codename uri keyring suite apt=$home/apt
  codename=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
  mkdir -p "$apt/lists/partial" "$apt/cache/archives/partial"
  uri=$(apt-get update --print-uris -o Dir::State::lists="$apt/lists" 2>/dev/null |
        sed -n "s|^'\(.*\)dists/$codename/InRelease'.*|\1|p" | head -1)
  [ -n "$uri" ] || die "no package source for '$codename' is configured in /etc/apt" \
    "configure one, or install Docker with Compose v2"
  keyring=$(grep -rhoiE 'signed-by[=:] *[^] ]*debian-archive[^] ]*' /etc/apt/sources.list /etc/apt/sources.list.d \
            2>/dev/null | sed 's/^[^=:]*[=:] *//' | head -1 || true)
  keyring=${keyring:-/usr/share/keyrings/debian-archive-keyring.gpg}
  apt-config dump | grep -iE '^Acquire::(check-|https?::|ftp::|retries|forceipv)' >"$apt/acquire.conf" || true
  printf 'deb [signed-by=%s] %s %%s main\n' "$keyring" "$uri" >"$apt/source.fmt"
  for suite in "$codename" trixie; do source_line "$suite"; done | sort -u >"$apt/sources.list"
  # Everything comes from the machine's own release; only what is named explicitly comes from trixie.
  printf 'Package: *\nPin: release n=%s\nPin-Priority: 990\n' "$codename" >"$apt/preferences"
  {
    cat "$apt/acquire.conf"
    cat <<TEXT
Dir::Etc::main "/dev/null"; Dir::Etc::parts "/dev/null"; Dir::Etc::sourceparts "/dev/null";
Dir::Etc::sourcelist "$apt/sources.list"; Dir::Etc::preferences "$apt/preferences"; Dir::Etc::preferencesparts "/dev/null";
Dir::State "$apt"; Dir::State::lists "$apt/lists"; Dir::State::status "/var/lib/dpkg/status"; Dir::Cache "$apt/cache";
APT::Sandbox::User "root"; Acquire::Languages "none"; Acquire::Retries "3";
TEXT
  } >"$apt/apt.conf"
  APT_CONFIG=$apt/apt.conf apt-get -qq update || die "the package lists could not be read" "check the network and /etc/apt"
}

source_line() { printf "$(cat "$home/apt/source.fmt")\n" "$1"; }

unpack() {  # DIRECTORY APT-GET-ARGUMENT...: download what is missing for some packages, unpack it, forget the archives
  local to=$1 deb archives=$home/apt/cache/archives; shift
  (cd "$archives" && APT_CONFIG=$home/apt/apt.conf apt-get -qq -y "$@" >/dev/null) ||
    die "packages could not be downloaded: ${*: -1}" "check the network and /etc/apt"
  rm -rf "$to"; mkdir -p "$to"
  for deb in "$archives"/*.deb; do dpkg -x "$deb" "$to"; done
  rm -rf "$home/apt/cache" "$home/apt/lists"
}

need_debian() {
  . /etc/os-release 2>/dev/null || true
  case " ${ID:-} ${ID_LIKE:-} " in *" debian "*) ;; *) die "$1" "$2" ;; esac
}

unpack_engine() {
  [ ! -e "$home/unpacked" ] || return 0
  need_debian "no Docker with Compose v2 works here, and a private one can be made on Debian only" "install Docker Engine with Compose v2"
  local start=$SECONDS
  say "downloading the Docker Engine packages into $cache (90 MB, about 20 s; nothing is installed)"
  prepare_apt
  unpack "$tree" --no-install-recommends --reinstall --download-only install \
    docker.io docker-compose/trixie iptables iproute2 mmdebstrap
  link_programs
  touch "$home/unpacked"
  say "engine unpacked, $((SECONDS - start)) s"
}

unpack_package() {  # PACKAGE DIRECTORY: one package's files, without its dependencies
  need_debian "$1 is missing" "install it"
  prepare_apt
  unpack "$2" download "$1"
}

link_programs() {  # what packages' install scripts would have linked
  local name lib plugins=$home/docker-config/cli-plugins
  rm -rf "$bin" "$sbin"; mkdir -p "$bin" "$sbin" "$plugins"
  ln -sf "$tree/usr/libexec/docker/cli-plugins/docker-compose" "$plugins/docker-compose"
  ln -s "$tree/usr/bin/docker" "$bin/docker"
  ln -s "$tree/usr/bin/tini-static" "$sbin/docker-init"
  # dockerd offers the driver `nvidia` only when this program is on its PATH; without a GPU it has nothing to do.
  if ! command -v nvidia-container-runtime-hook >/dev/null; then
    printf '#!/bin/sh\ncat >/dev/null\nexit 0\n' >"$sbin/nvidia-container-runtime-hook"
    chmod +x "$sbin/nvidia-container-runtime-hook"
  fi
  lib=$tree/usr/lib/$(uname -m)-linux-gnu
  cat >"$home/inner.sh" <<TEXT
export LD_LIBRARY_PATH='$lib:$tree/lib/${lib##*/}' XTABLES_LIBDIR='$lib/xtables'
export PERL5LIB='$(printf '%s:' "$tree"/usr/share/perl5 "$tree"/usr/share/perl/5.* "$lib"/perl/5.* "$lib"/perl-base)'
export PATH='$sbin:$bin:$tree/usr/bin:$tree/usr/sbin:$tree/bin:$tree/sbin':"\$PATH"
TEXT
  for name in iptables iptables-save iptables-restore; do ln -s "$tree/usr/sbin/xtables-nft-multi" "$sbin/$name"; done
  if ! inner iptables -t nat -S >/dev/null 2>&1; then  # a kernel without nf_tables
    for name in "$sbin"/iptables*; do ln -sf "$tree/usr/sbin/xtables-legacy-multi" "$name"; done
  fi
}

inner() { (. "$home/inner.sh"; "$@"); }  # run a program of the private tree

root_filesystem() {  # SUITE PACKAGES [OPTION...]: a tar stream on stdout, from the machine's own sources
  local suite=$1 packages=$2; shift 2
  inner mmdebstrap --quiet --variant=minbase --mode=auto --include="$packages" --aptopt="$home/apt/acquire.conf" \
    --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
    --dpkgopt='path-exclude=/usr/share/locale/*' \
    --customize-hook='rm -rf "$1"/etc/apt/sources.list* "$1"/etc/apt/apt.conf.d/99mmdebstrap' \
    "$@" "$suite" - "$(source_line "$suite")"
}
