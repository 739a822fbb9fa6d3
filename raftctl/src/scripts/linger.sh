
# manager PROPERTY: what systemd's keeper of sessions says of itself.
manager() {
  loginctl show-user --property "$1" 2>/dev/null | sed "s/^$1=//"
}

# ends_with_login: whether systemd ends all that this login leaves behind, with its last session.
ends_with_login() {
  [ -d /run/systemd/system ] && command -v loginctl >/dev/null 2>&1 || return 1
  [ "$(manager KillUserProcesses)" = yes ] || return 1
  user=$(id -un)
  case " $(manager KillExcludeUsers) " in *" $user "*) return 1 ;; esac
  only=$(manager KillOnlyUsers)
  case " $only " in "  " | *" $user "*) return 0 ;; esac
  return 1
}

# lingers: whether this login's own manager stays when its last session ends.
lingers() {
  [ "$(loginctl show-user "$(id -un)" --property Linger 2>/dev/null)" = Linger=yes ]
}

# may_linger: whether it does, or could be told to without a password.
may_linger() {
  lingers || pkcheck --action-id org.freedesktop.login1.set-self-linger --process "$$" >/dev/null 2>&1
}

# linger: lets what is started by `$in_scope` outlive the login, where it would not.
linger() {
  in_scope=
  ends_with_login || return 0
  lingers || loginctl enable-linger </dev/null >/dev/null 2>&1
  if lingers && command -v systemd-run >/dev/null 2>&1; then
    XDG_RUNTIME_DIR=/run/user/$(id -u)
    export XDG_RUNTIME_DIR
    in_scope='systemd-run --user --scope --quiet --'
  fi
}
