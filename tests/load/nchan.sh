#!/bin/sh
# Starts nginx with nchan in the foreground, for comparison, at a port of 127.0.0.1 and in a folder of
# its own; installs both from Debian's packages where that is possible. Ends with 3 where it is not.
set -eu
port=$1 folder=$2
module=/usr/lib/nginx/modules/ngx_nchan_module.so
if ! command -v nginx >/dev/null || [ ! -e "$module" ]; then
    [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || exit 3
    # Debian's package starts nginx at port 80; a policy says that it must not.
    printf '#!/bin/sh\nexit 101\n' > /usr/sbin/policy-rc.d && chmod +x /usr/sbin/policy-rc.d
    apt-get install -y --no-install-recommends nginx-light libnginx-mod-nchan >/dev/null 2>&1 ||
        { apt-get update >/dev/null 2>&1 && apt-get install -y --no-install-recommends nginx-light libnginx-mod-nchan >/dev/null 2>&1; } ||
        { rm -f /usr/sbin/policy-rc.d; exit 3; }
    rm -f /usr/sbin/policy-rc.d
fi
cat > "$folder/nginx.conf" <<CONF
load_module $module;
daemon off;
master_process off;
pid $folder/nginx.pid;
error_log $folder/error.log;
worker_rlimit_nofile 20000;
events { worker_connections 16000; }
http {
    access_log off;
    client_body_temp_path $folder/body; proxy_temp_path $folder/proxy; fastcgi_temp_path $folder/fastcgi;
    uwsgi_temp_path $folder/uwsgi; scgi_temp_path $folder/scgi;
    server {
        listen 127.0.0.1:$port;
        location ~ /sub/(\d+)\$ { nchan_subscriber websocket; nchan_channel_id \$1; nchan_message_buffer_length 512; }
        location ~ /pub/(\d+)\$ { nchan_publisher websocket; nchan_channel_id \$1; nchan_message_buffer_length 512; nchan_message_timeout 5s; }
    }
}
CONF
exec nginx -p "$folder" -c "$folder/nginx.conf"
