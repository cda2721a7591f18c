//! Which Debian packages no product image carries.
//!
//! The image deploys Shaken Fist against infrastructure that the operator runs
//! elsewhere; a server of that kind on a node would be one more thing that
//! listens, and that nobody looks after.

/// A name, or the beginning of one with `*`, and what it is.
const INFRASTRUCTURE: &[(&str, &str)] = &[
    ("mariadb-server*", "a database server"),
    ("mariadb-plugin-*", "a part of a database server"),
    ("default-mysql-server*", "a database server"),
    ("mysql-server*", "a database server"),
    ("galera-*", "a part of a database server"),
    ("postgresql", "a database server"),
    ("postgresql-1*", "a database server"),
    ("redis-server", "a database server"),
    ("redis", "a database server"),
    ("valkey*", "a database server"),
    ("memcached", "a cache server"),
    ("etcd", "a cluster store"),
    ("etcd-server", "a cluster store"),
    ("zookeeper*", "a cluster store"),
    ("consul", "a cluster store"),
    ("rsyslog*", "a log shipper"),
    ("syslog-ng*", "a log shipper"),
    ("fluent-bit", "a log shipper"),
    ("filebeat", "a log shipper"),
    ("vector", "a log shipper"),
    ("promtail", "a log shipper"),
    ("loki", "a log server"),
    ("systemd-journal-remote", "a log shipper"),
    ("apache2", "a web server"),
    ("apache2-bin", "a web server"),
    ("nginx*", "a web server"),
    ("lighttpd*", "a web server"),
    ("caddy", "a web server"),
    ("haproxy*", "a load balancer"),
    ("keepalived", "a load balancer"),
    ("traefik", "a load balancer"),
    ("varnish", "a load balancer"),
    ("prometheus*", "a metrics server"),
    ("grafana*", "a metrics server"),
    ("telegraf", "a metrics agent"),
    ("collectd*", "a metrics agent"),
    ("influxdb*", "a metrics server"),
    ("zabbix-*", "a monitoring agent or server"),
    ("nagios*", "a monitoring server"),
    ("telnetd*", "a remote shell"),
    ("openssh-server", "a remote shell"),
    ("dropbear*", "a remote shell"),
    ("postfix", "a mail server"),
    ("exim4*", "a mail server"),
    ("cron", "a scheduler beside systemd's"),
    ("docker.io", "a container runtime"),
    ("docker-ce", "a container runtime"),
    ("containerd*", "a container runtime"),
];

/// What a package is, when no product image carries it.
pub fn infrastructure(package: &str) -> Option<&'static str> {
    INFRASTRUCTURE
        .iter()
        .find(|(name, _)| match name.strip_suffix('*') {
            Some(start) => package.starts_with(start),
            None => package == *name,
        })
        .map(|(_, what)| *what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_known_and_what_nodes_need_is_not() {
        for package in [
            "mariadb-server",
            "mariadb-server-core",
            "etcd-server",
            "rsyslog",
            "nginx-light",
            "grafana",
            "openssh-server",
            "haproxy",
            "postgresql-17",
        ] {
            assert!(infrastructure(package).is_some(), "{package}");
        }
        for package in [
            "mariadb-common",
            "libmariadb3",
            "python3-mysqldb",
            "dnsmasq-base",
            "openssh-client",
            "postgresql-client-common",
            "systemd",
            "libvirt-daemon-system",
            "python3-etcd",
            "cron-daemon-common",
        ] {
            assert_eq!(infrastructure(package), None, "{package}");
        }
    }
}
