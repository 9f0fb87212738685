# Starts nginx, prints whose certificate it shows, and stops it. With `serve` it stays, with `ask` it is only asked.
PATH=$PATH:/usr/sbin
ask() { curl --silent --show-error --insecure --verbose --unix-socket /tmp/nginx.sock https://localhost/ 2>&1 | grep subject:; }
[ "$1" = ask ] && { ask; exit; }
[ "$1" = serve ] && exec nginx -e stderr -c /tools/nginx.conf >/tmp/nginx.log 2>&1
nginx -e stderr -c /tools/nginx.conf || exit
ask
nginx -e stderr -c /tools/nginx.conf -s stop
