# Varnish as a cache in front of two gateways of Hayloft. Tested with Varnish 7.1 of Debian 12.
#
#   varnishd -a :80 -f /etc/varnish/varnish.vcl -s malloc,8g
#
# Varnish keeps whole files and cuts ranges out of them itself. Above some MiB a file, nginx with
# `slice` reads less of the origin.
vcl 4.1;

import directors;

# A gateway that drains, or that has lost its cluster, says 503 here: it gets no new requests.
probe readyz {
    .url = "/readyz";
    .interval = 1s;
    .timeout = 2s;
    .window = 4;
    .threshold = 2;
    .initial = 2;
}

backend gateway1 {
    .host = "127.0.0.1";
    .port = "8080";
    .probe = readyz;
    .connect_timeout = 2s;
    .first_byte_timeout = 15s;      # a gateway gives up after 10 s itself
    .between_bytes_timeout = 15s;
    .max_connections = 1000;
}

backend gateway2 {
    .host = "127.0.0.1";
    .port = "8081";
    .probe = readyz;
    .connect_timeout = 2s;
    .first_byte_timeout = 15s;
    .between_bytes_timeout = 15s;
    .max_connections = 1000;
}

# Who may say that a file was deleted: the directory's machines (its option purge_url).
acl directory {
    "127.0.0.1";
}

sub vcl_init {
    # Any gateway serves any file.
    new gateways = directors.round_robin();
    gateways.add_backend(gateway1);
    gateways.add_backend(gateway2);
}

sub vcl_recv {
    if (req.method == "PURGE") {
        if (client.ip !~ directory) {
            return (synth(405));
        }
        return (purge);
    }
    set req.backend_hint = gateways.backend();
    # Files depend on their path only; a cookie would keep Varnish from caching.
    unset req.http.Cookie;
    if (req.method != "GET" && req.method != "HEAD") {
        return (pass);
    }
    # Uploads, JSON, health.
    if (req.url ~ "^/v1/" || req.url ~ "^/(healthz|readyz)$") {
        return (pass);
    }
    return (hash);
}

sub vcl_hash {
    # The path alone, not the Host: one file is one object, under whatever name a client came.
    # Queries belong to it: they may name a download or carry a signature.
    hash_data(req.url);
    return (lookup);
}

sub vcl_backend_fetch {
    if (bereq.method == "GET") {
        unset bereq.body;
    }
}

sub vcl_backend_response {
    # The first bytes go out as they come in, however long the file is.
    set beresp.do_stream = true;

    # Cache-Control gave the ttl. Behind it: serve the old object while a new one is fetched, also
    # while no gateway is healthy ...
    set beresp.grace = 6h;
    # ... and keep it for longer, to ask for it with If-None-Match: a 304 costs no bytes.
    set beresp.keep = 7d;
    # But of a signed URL nothing is sent once it has expired.
    if (bereq.url ~ "[?&]hl-") {
        set beresp.grace = 0s;
        set beresp.keep = 0s;
    }

    if (beresp.status >= 500) {
        if (bereq.is_bgfetch) {
            # The old object is better than this answer.
            return (abandon);
        }
        if (bereq.retries < 1 && (bereq.method == "GET" || bereq.method == "HEAD")) {
            return (retry);
        }
    }
    # Errors say no-store. Hit-for-miss: for some seconds requests for such a file do not wait for
    # each other, and the first answer that may be kept ends that.
    if (beresp.http.Cache-Control ~ "no-store|no-cache" || beresp.ttl <= 0s) {
        set beresp.uncacheable = true;
        set beresp.ttl = 5s;
        set beresp.grace = 0s;
        set beresp.keep = 0s;
    }
    return (deliver);
}

sub vcl_backend_error {
    if (bereq.retries < 1 && (bereq.method == "GET" || bereq.method == "HEAD")) {
        return (retry);
    }
}

sub vcl_deliver {
    if (obj.hits > 0) {
        set resp.http.X-Front-Cache = "HIT";
    } else {
        set resp.http.X-Front-Cache = "MISS";
    }
}
