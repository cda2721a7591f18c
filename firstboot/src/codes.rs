//! Every failure code, with the explanation that `sf-firstboot explain CODE`
//! and the reference documentation print. Codes are stable: scripts and
//! runbooks name them.

use serde::Serialize;
use sf_contract::failure::Kind;

/// A failure code and its standing explanation.
#[derive(Debug, Serialize)]
pub struct Code {
    /// `SF-DB-REFUSED`.
    #[serde(rename = "code")]
    pub id: &'static str,
    /// Who must act.
    pub kind: Kind,
    /// One line: what it means.
    pub title: &'static str,
    /// Why the agent stops for it.
    pub why: &'static str,
    /// What to do.
    #[serde(skip)]
    pub remedy: &'static str,
}

impl Code {
    /// Is it told and then passed over, wherever it is found?
    pub fn only_warns(&self) -> bool {
        ["A warning: the agent goes on", "Nothing waits for it:"]
            .iter()
            .any(|start| self.why.starts_with(start))
    }
}

macro_rules! codes {
    ($($(#[doc = $section:literal])? $name:ident = $id:literal, $kind:ident, $title:literal, $why:literal, $remedy:literal;)*) => {
        $(#[doc = concat!("`", $id, "`: ", $title)]
        pub static $name: Code = Code { id: $id, kind: Kind::$kind, title: $title, why: $why, remedy: $remedy };)*
        /// All codes, in the order of the documentation.
        pub static ALL: &[&Code] = &[$(&$name),*];
    };
}

codes! {
    /// Program
    INTERNAL = "SF-INTERNAL", Internal, "the agent has a defect",
        "Going on after a broken assumption could harm the cluster.",
        "Report it with the output of `journalctl -u sf-firstboot -o json`. Meanwhile `systemctl restart sf-firstboot` tries again, and the image that ran before may still do.";
    USAGE = "SF-USAGE", Usage, "the command line is wrong",
        "Nothing was done.", "See `sf-firstboot --help`.";
    OUTPUT = "SF-OUTPUT", Environment, "the answer could not be written",
        "Whoever reads it would take a part for the whole.",
        "Free space where standard output goes, or send it elsewhere; then run the command again. What it did is done: only the answer is missing.";
    /// Node
    IMAGE_MANIFEST = "SF-IMAGE-MANIFEST", Environment, "what this image is cannot be read",
        "The manifest says which role, release and daemons the image has; without it nothing can be checked.",
        "On a node: boot an image made by sf-image. At a desk: give --manifest FILE, or --release-descriptor FILE and --role ROLE.";
    IMAGE_RELEASE = "SF-IMAGE-RELEASE", Environment, "the release descriptor cannot be read",
        "It says which settings and daemons the Shaken Fist release has; nothing about a release is guessed.",
        "On a node: boot an image made by sf-image. At a desk: give --release-descriptor releases/NAME/release.toml and --role ROLE, or --manifest FILE in place of --role.";
    UNCONFIRMED = "SF-UNCONFIRMED", Usage, "the command was not confirmed",
        "What it does is not undone by another command.",
        "Run it at a terminal and answer, or with --yes once you are sure.";
    DAEMONS_RUN = "SF-DAEMONS-RUN", Refused, "daemons run on this node",
        "They would go on under a clearance that is gone, and could not restart.",
        "Stop them first: systemctl stop sf.target.";
    STATUS_ABSENT = "SF-STATUS-ABSENT", Environment, "the agent has left no status",
        "It has not run on this machine, or its state folder was wiped.",
        "On a node: `systemctl status sf-firstboot`. At a desk use `sf-firstboot check`.";
    BUSY = "SF-BUSY", Transient, "another run of the agent is under way",
        "Two runs at once on one node would write the same files.",
        "Wait for the other run: `sf-firstboot status` shows what it does.";
    NOT_ROOT = "SF-NOT-ROOT", Usage, "this command must be run by root",
        "It changes files of the system.", "Run it with sudo, or let systemd run it: systemctl restart sf-firstboot.";
    AGENT_START = "SF-AGENT-START", Transient, "systemd could not start the agent",
        "Nothing of the agent has run, so nothing was checked or written.",
        "See the cause in the unit's journal; look at the disk (`journalctl -k -p err`, `df -h /var`) and at the mounts (`findmnt /var /run`).";
    AGENT_KILLED = "SF-AGENT-KILLED", Transient, "the agent was killed",
        "It did not get to say how far it came; systemd starts it again, and what it had begun is taken up.",
        "Once is nothing: somebody ended it, or memory was short for a moment. If it goes on, see who did it in the unit's journal (`journalctl -b -u sf-firstboot`) and in the kernel's (`journalctl -k -b`): for want of memory, give the node more of it.";
    AGENT_CROWDED = "SF-AGENT-CROWDED", Transient, "this machine has no room for a thread of the agent",
        "It ended where it stood; systemd starts it again, and what it had begun is taken up.",
        "Once is nothing: memory or threads were short for a moment. If it goes on, see what fills the machine (`free -m`, `systemd-cgtop`), and give the node more memory.";
    CREDENTIAL_CLOSED = "SF-CREDENTIAL-CLOSED", Configuration, "a credential of this node cannot be opened",
        "systemd starts nothing that takes credentials while one of them cannot be opened: whoever sealed it meant it to be used.",
        "It was sealed for another machine or under another name, or it is not sealed at all; with Secure Boot on, one with the null key is refused too. Seal it anew for this node (`sf-image metadata seal`), or delete its file in the ESP, and reboot.";
    STATE_WRITE = "SF-STATE-WRITE", Environment, "a file of this node cannot be written",
        "What is not recorded cannot be relied on at the next boot.",
        "See the cause; look at the disk (`journalctl -k -p err`) and at the mounts (`findmnt /var /etc`).";
    CHECK_IMPOSSIBLE = "SF-CHECK-IMPOSSIBLE", Environment, "a check could not be made",
        "What cannot be checked is not taken for granted.",
        "Mend what the cause names, such as a file that cannot be read; for the addresses, see whether `ip -brief address` works on this node.";
    MACHINE_ID = "SF-MACHINE-ID", Environment, "nothing tells this machine from others",
        "The cluster's tables know machines by their machine-id and their firmware's product UUID: without both, two nodes would be taken for one, and a copied disk could not be told from the first.",
        "Make a machine-id and run again: systemd-machine-id-setup && systemctl restart sf-firstboot. If it is gone after the next boot, /etc cannot be written: find out why (findmnt /etc).";
    DISK_FULL = "SF-DISK-FULL", Environment, "this node's disk has no space left",
        "Daemons that cannot write lose instances' data.",
        "Free space on the file system of /var and /srv (`df -h /var /srv`; `journalctl --vacuum-size=100M` drops old logs), or give the node a larger disk.";
    ADDRESS_MISSING = "SF-ADDRESS-MISSING", Transient, "an address of the metadata is on no interface of this node",
        "Daemons bind to this address and tell it to the other nodes.",
        "Correct address and interface in the metadata, or the network's configuration (`ip -brief address`); the agent keeps looking, since it may only be late.";
    INTERFACE_MISSING = "SF-INTERFACE-MISSING", Transient, "this node has no interface of that name",
        "Virtual networks are built on it.",
        "Correct the name in the metadata (`ip -brief link` lists them); the agent keeps looking, since its driver may only be late.";
    MEMORY_LOW = "SF-MEMORY-LOW", Environment, "this node has too little memory",
        "A warning: the agent goes on, but daemons or instances would be killed for want of memory.",
        "Give the node 2 GiB or more, and reserve less of it than there is (node.reservations.ram_gb).";
    KVM_MISSING = "SF-KVM-MISSING", Environment, "this node cannot virtualise",
        "A warning: the agent goes on, but instances run under emulation, many times slower.",
        "Switch virtualisation on in the firmware, or on the host of a virtual machine, and load kvm_intel or kvm_amd.";
    MTU_SMALL = "SF-MTU-SMALL", Environment, "the mesh network carries packets that are too small",
        "A warning: the agent goes on, but instances' packets, which are wrapped in the mesh's, are lost when they are large.",
        "Raise the MTU of the mesh's interface and switches to 2000 or more, and to cluster.max_hypervisor_mtu where that is set.";
    CLOCK_WRONG = "SF-CLOCK-WRONG", Transient, "this node's clock is wrong",
        "Certificates and tokens are judged by the clock; with a wrong one everything looks expired or not valid yet.",
        "Set it: date --utc --set 'YYYY-MM-DD HH:MM' (timedatectl refuses while systemd-timesyncd runs). Better, let it reach a time server: by DHCP, or NTP= in /etc/systemd/timesyncd.conf and systemctl restart systemd-timesyncd. The agent keeps trying, since the clock may just not be synchronised yet.";
    CLOCK_SKEW = "SF-CLOCK-SKEW", Environment, "this node's clock and the database server's differ",
        "A warning: the agent goes on, since the clocks do not say which is wrong; tokens expire early or late, and nodes look dead that are not.",
        "Synchronise both with NTP.";
    /// Certificates
    PKI_SYNTAX = "SF-PKI-SYNTAX", Configuration, "a certificate or key cannot be read",
        "Whatever is in it, no daemon could use it either.",
        "Give PEM text: certificates in pki.ca and pki.certificate, one unencrypted private key in pki.key.";
    PKI_DER = "SF-PKI-DER", Configuration, "a certificate or key is in DER form, not PEM",
        "Shaken Fist, libvirt and the agent read PEM.",
        "Convert it: openssl x509 -inform der -in FILE -out FILE.converted.pem (for a key: openssl pkey).";
    PKI_ENCRYPTED = "SF-PKI-ENCRYPTED", Configuration, "a private key is encrypted",
        "Nobody is there to type its pass phrase when the node boots.",
        "Decrypt it with openssl pkey -in FILE -out FILE.plain, and give it to the node as a credential.";
    PKI_ORDER = "SF-PKI-ORDER", Configuration, "a chain of certificates is in the wrong order",
        "A server sends its chain as it is; clients take the first certificate for the server's own.",
        "Put the node's own certificate first, then each one that signed the one before.";
    PKI_CHAIN = "SF-PKI-CHAIN", Configuration, "a certificate does not come from the authority that is trusted",
        "Every peer would refuse it.",
        "Give the authority that signed it, and the intermediate certificates between the two.";
    PKI_EXPIRED = "SF-PKI-EXPIRED", Configuration, "a certificate has expired",
        "Every peer would refuse it.",
        "Renew it and put the new one in its place.";
    PKI_EXPIRING = "SF-PKI-EXPIRING", Configuration, "a certificate expires within 30 days",
        "A warning: the agent goes on, but the first boot after that day stops.",
        "Renew it in time.";
    PKI_NOT_YET_VALID = "SF-PKI-NOT-YET-VALID", Transient, "a certificate is not valid yet",
        "Every peer would refuse it; mostly it is a clock that is wrong.",
        "See whose clock is wrong: `date --utc` here and on the machine that makes certificates. This node's: set it: date --utc --set 'YYYY-MM-DD HH:MM' (timedatectl refuses while systemd-timesyncd runs). Better, let it reach a time server: by DHCP, or NTP= in /etc/systemd/timesyncd.conf and systemctl restart systemd-timesyncd. The agent keeps trying, since the clock may just not be synchronised yet.";
    PKI_NAME = "SF-PKI-NAME", Configuration, "a certificate is for another name",
        "Peers that call this node by its name would refuse the certificate.",
        "Have it issued with this node's name as subjectAltName, or correct node.name.";
    PKI_KEY_MISMATCH = "SF-PKI-KEY-MISMATCH", Configuration, "the private key does not belong to the certificate",
        "No TLS handshake succeeds with them.",
        "Give the key that the certificate was requested with.";
    PKI_USAGE = "SF-PKI-USAGE", Configuration, "a certificate may not be used for this",
        "Peers check what a certificate may be used for, and would refuse it.",
        "Have it issued for the use that is named.";
    PKI_MODE = "SF-PKI-MODE", Configuration, "the file of a private key is not protected",
        "A warning: the agent goes on, but whoever reads the key can pose as this node.",
        "chown root:root and chmod 0600 the file, or give the key as a systemd credential.";
    /// Metadata
    META_MISSING = "SF-META-MISSING", Configuration, "this node has no metadata",
        "Without metadata the agent does not know this node's name, addresses or database.",
        "Give the node metadata through one of the sources listed, and restart it: systemctl restart sf-firstboot.";
    META_UNREADABLE = "SF-META-UNREADABLE", Configuration, "a source of metadata is there but cannot be read",
        "Going on with the other sources would configure the node by half of what was meant.",
        "Mend or remove the named file or credential.";
    META_SYNTAX = "SF-META-SYNTAX", Configuration, "metadata is not TOML",
        "What cannot be read as a whole is not used in parts.",
        "Correct the named line; `sf-image metadata check FILE` tries a file at your desk.";
    META_SCHEMA = "SF-META-SCHEMA", Configuration, "metadata does not say schema = 1",
        "Another schema may mean something else by the same names.",
        "Write schema = 1 on the first line, or use an image that reads the schema given.";
    META_UNKNOWN_KEY = "SF-META-UNKNOWN-KEY", Configuration, "metadata has a key that does not exist",
        "A mistyped key that is silently ignored comes to light when it matters most.",
        "Correct or remove the key; `sf-firstboot explain` lists all fields.";
    META_INVALID = "SF-META-INVALID", Configuration, "a metadata field has a value that cannot be right",
        "Nothing is guessed or corrected silently.",
        "Correct the value; `sf-firstboot explain FIELD` shows what the field takes and where the value came from.";
    META_REQUIRED = "SF-META-REQUIRED", Configuration, "a metadata field that this node needs is absent",
        "The release in this image cannot run on this role without it.",
        "Add the named line to the node's metadata.";
    META_REFERENCE = "SF-META-REFERENCE", Configuration, "a secret is not where the metadata says",
        "The node cannot log in or serve without it.",
        "Provide the named credential or file, or correct the reference.";
    META_UNLIKELY = "SF-META-UNLIKELY", Configuration, "metadata says something that is allowed but unlikely to be meant",
        "A warning: the agent goes on.",
        "Check the named field.";
    META_EXPOSED = "SF-META-EXPOSED", Configuration, "a secret can be read by every user of this node",
        "A warning: the agent goes on, but any process on the node can take the secret.",
        "Make the file readable for root alone (chmod 0600), or move the secret to a systemd credential.";
    META_FOREIGN = "SF-META-FOREIGN", Configuration, "what stands in the place of metadata is a document for another program",
        "The channel was made for cloud-init, and somebody uses it for that; what was meant for this node is not guessed.",
        "Put the node's metadata (TOML) there instead, or give it by another source, such as the credential sf.metadata or /etc/sf/metadata.toml.";
    DRIVE_UNREADABLE = "SF-DRIVE-UNREADABLE", Environment, "a config drive is there but cannot be read",
        "Going on with the other sources would configure the node by half of what was meant.",
        "Make the drive again as ISO 9660 (with Rock Ridge or Joliet names) or FAT, and attach it; `dmesg` tells of errors of the device.";
    DRIVE_SEVERAL = "SF-DRIVE-SEVERAL", Configuration, "there is more than one config drive of a kind",
        "Which one is meant is not guessed.",
        "Detach all but one.";
    /// Fetching
    FETCH_URL = "SF-FETCH-URL", Configuration, "what says where metadata is fetched from is wrong",
        "Metadata decides what this node is; it is not fetched from a place that was perhaps not meant.",
        "Correct sf.metadata_url, sf.metadata_sha256 or sf.metadata_ca on the kernel command line or among the credentials.";
    FETCH_UNTRUSTED = "SF-FETCH-UNTRUSTED", Configuration, "metadata would be taken from a server that nothing vouches for",
        "Whoever answers in that server's place would decide what this node is, and read its passwords.",
        "Add sf.metadata_sha256 (the document's digest), or use https:// and add sf.metadata_ca (the CA's fingerprint).";
    FETCH_DNS = "SF-FETCH-DNS", Transient, "the metadata server's name does not resolve",
        "Without its answer this node would be configured by half of what was meant.",
        "Check the name, and this node's name servers (`resolvectl query HOST`); the agent keeps trying, since DNS may only be late.";
    FETCH_ROUTE = "SF-FETCH-ROUTE", Transient, "there is no route to the metadata server",
        "Without its answer this node would be configured by half of what was meant.",
        "Look at the node's addresses and routes (`ip -brief address`, `ip route`); the agent keeps trying, since the network may only be late.";
    FETCH_REFUSED = "SF-FETCH-REFUSED", Transient, "nothing accepts connections at the metadata server's address",
        "Without its answer this node would be configured by half of what was meant.",
        "Start the metadata server, or correct address and port; the agent keeps trying.";
    FETCH_TIMEOUT = "SF-FETCH-TIMEOUT", Transient, "the metadata server does not answer in time",
        "Without its answer this node would be configured by half of what was meant.",
        "Look for a firewall that drops packets, or an overloaded server; the agent keeps trying.";
    FETCH_CUT_OFF = "SF-FETCH-CUT-OFF", Transient, "the metadata server's answer ends too early",
        "Half a document is not used.",
        "Look at the server's log; the agent keeps trying.";
    FETCH_UNAVAILABLE = "SF-FETCH-UNAVAILABLE", Transient, "the metadata server says that it cannot answer now",
        "Without its answer this node would be configured by half of what was meant.",
        "Look at the server (it answers 429 or 5xx); the agent keeps trying.";
    FETCH_CLOCK = "SF-FETCH-CLOCK", Transient, "the metadata server's certificate is not valid yet by this node's clock",
        "A certificate is only good in its time, and this clock says that the time has not come.",
        "A node that was long without power starts in the past. Set its clock: date --utc --set 'YYYY-MM-DD HH:MM' (timedatectl refuses while systemd-timesyncd runs). Better, let it reach a time server: by DHCP, or NTP= in /etc/systemd/timesyncd.conf and systemctl restart systemd-timesyncd. The agent keeps trying, since the time may only be synchronised later.";
    FETCH_TLS = "SF-FETCH-TLS", Configuration, "the metadata server is not the one that was meant, or does not speak TLS",
        "Whoever answers in that server's place would decide what this node is, and read its passwords.",
        "Compare the server's certificates with sf.metadata_ca: openssl s_client -connect HOST:PORT -showcerts. The server must send its CA certificate along when it is known by its fingerprint.";
    FETCH_STATUS = "SF-FETCH-STATUS", Configuration, "the metadata server answers that it has no such document, or will not give it",
        "A document that is expected and not there is not a reason to go on without it.",
        "Correct the URL, or put the document there; then: systemctl restart sf-firstboot.";
    FETCH_REDIRECT = "SF-FETCH-REDIRECT", Configuration, "the metadata server redirects to another place",
        "Redirects are not followed: they would lead to a place that nobody vouched for.",
        "Name the final place in sf.metadata_url, or stop the redirect.";
    FETCH_BODY = "SF-FETCH-BODY", Configuration, "what the metadata server gives is not metadata",
        "A web page, a large file or an empty answer in the place of metadata means that something else was meant.",
        "Fetch it by hand, from another machine (curl -v URL), and correct the URL or the server.";
    FETCH_DIGEST = "SF-FETCH-DIGEST", Configuration, "the document that was fetched has another digest than sf.metadata_sha256",
        "It was changed on the way, or on the server, after the digest was written.",
        "If the change was meant, write the new digest (`sha256sum FILE`); if not, find out who changed the document.";
    FETCH_KEPT = "SF-FETCH-KEPT", Transient, "a metadata server gives no answer; the kept copy of its last one is used",
        "A warning: the agent goes on; changes made on the server since then are not seen.",
        "Mend the metadata server, and restart the node at leisure.";
    /// Configuration
    REPORT_UNSENT = "SF-REPORT-UNSENT", Transient, "the result could not be posted to report.url yet",
        "Nothing waits for it: the node goes on, and the post is tried again, ever more slowly.",
        "See the cause; the server of report.url may be down. The same result is in `sf-firstboot status` and in the cluster's database.";
    REPORT_REJECTED = "SF-REPORT-REJECTED", Configuration, "the result cannot be posted to report.url",
        "Nothing waits for it: the node goes on. This result is not posted again; the next one is tried.",
        "Correct report.url, or the server that refuses (one that is known by no authority: add its CA to pki.ca, behind what is there); then: systemctl restart sf-firstboot.";
    CONFIG_MISSING = "SF-CONFIG-MISSING", Configuration, "a setting that this release needs has no value",
        "Daemons would not start without it, and would not say why.",
        "Set the named field in the node's metadata.";
    CONFIG_VALUE = "SF-CONFIG-VALUE", Configuration, "a setting has a value that its file cannot hold",
        "systemd and sf-ctl read /etc/sf/config by different rules: quotes, backslashes, line breaks and = come out differently or break it.",
        "Choose a value without quotes, backslashes, control characters and =.";
    /// Release
    HOOK_UNREACHABLE = "SF-HOOK-UNREACHABLE", Transient, "the release's own store cannot be reached",
        "Without the system key nobody can log in to the API.",
        "Start the store that the release uses (for 0.7: etcd at ETCD_HOST, port 2379); the agent keeps trying.";
    HOOK_FAILED = "SF-HOOK-FAILED", Environment, "the release's helper for the system key failed",
        "Without the system key nobody can log in to the API.",
        "See the cause; mend it, then run: systemctl restart sf-firstboot.";
    BOOTSTRAP_REQUIRED = "SF-BOOTSTRAP-REQUIRED", Refused, "the cluster has not been bootstrapped, and this node may neither do it nor wait",
        "bootstrap.mode = \"require\" says that this node joins a cluster that exists.",
        "Check that database.dsn names the right cluster, or bootstrap it first from a database-tier node.";
    /// Daemons
    UNITS_START = "SF-UNITS-START", Environment, "systemd did not take the request to start the daemons",
        "Without it nothing of Shaken Fist runs on this node.",
        "See the cause; `systemctl status sf.target` and `journalctl -b -p err` say more.";
    DAEMON_NOT_READY = "SF-DAEMON-NOT-READY", Transient, "a daemon does not answer",
        "A node whose daemons do not answer does no work, and an update that cannot run must not become the good one.",
        "See in the journal of the unit that is named why (`journalctl -b -u UNIT`, `systemctl status UNIT`); the agent keeps asking.";
    /// Database
    DB_RESOLVE = "SF-DB-RESOLVE", Transient, "a database host's name does not resolve",
        "Without the database the agent cannot know whether the cluster exists or which versions run.",
        "Check the host's name in database.dsn and this node's name servers (`resolvectl query HOST`); the agent keeps trying, since DNS may only be late.";
    DB_UNREACHABLE = "SF-DB-UNREACHABLE", Transient, "there is no way through the network to the database's address",
        "Without the database the agent cannot know whether the cluster exists or which versions run.",
        "The network is not up yet or has no route there: ip route get ADDRESS; the agent keeps trying.";
    DB_REFUSED = "SF-DB-REFUSED", Transient, "nothing accepts connections at the database's address",
        "Without the database the agent cannot know whether the cluster exists or which versions run.",
        "Start MariaDB, let it listen on that address (bind-address) and check host and port in database.dsn; the agent keeps trying.";
    DB_TIMEOUT = "SF-DB-TIMEOUT", Transient, "the database does not answer in time",
        "Without the database the agent cannot know whether the cluster exists or which versions run.",
        "Check the route, firewalls and the server's load; the agent keeps trying.";
    DB_LOST = "SF-DB-LOST", Transient, "the connection to the database broke",
        "What was not committed is not there; what was is found again.",
        "Once is nothing: a restart of the server. If it goes on, see the server's error log, and what stands between (a proxy, a firewall); the agent keeps trying.";
    DB_NOT_READY = "SF-DB-NOT-READY", Transient, "the database server is up but takes no statements yet",
        "A Galera node outside the primary component, or a server that is starting or stopping, must not be written to.",
        "Wait for a server that is starting; bring a Galera cluster back to a quorum (SHOW STATUS LIKE 'wsrep_cluster_status'); the agent keeps trying.";
    DB_READ_ONLY = "SF-DB-READ-ONLY", Transient, "the database server is read-only",
        "Writing to a replica would part it from its primary.",
        "Name the primary in database.dsn, or end the maintenance (SET GLOBAL read_only = 0; innodb_read_only is an option of the server's start); the agent keeps trying.";
    DB_BUSY = "SF-DB-BUSY", Transient, "the database server has no connection or lock to spare",
        "The agent waits its turn rather than adding to the load.",
        "Raise max_connections or find who holds the connections and locks (SHOW PROCESSLIST); the agent keeps trying.";
    DB_FULL = "SF-DB-FULL", Transient, "the database server cannot store any more",
        "The write was rolled back as a whole.",
        "Free space on the database server; the agent keeps trying.";
    DB_TLS = "SF-DB-TLS", Configuration, "the database connection cannot be encrypted as the DSN demands",
        "Falling back to an unencrypted connection would send the cluster's secrets in clear.",
        "Give the server a certificate that this node trusts, or ask for less with ssl-mode= in database.dsn.";
    DB_TLS_CA = "SF-DB-TLS-CA", Configuration, "there is no authority to judge the database server's certificate by",
        "A certificate that is compared with nothing proves nothing.",
        "Give the authority of the server's certificate as pki.ca, or as ssl-ca= in database.dsn.";
    DB_TLS_ABSENT = "SF-DB-TLS-ABSENT", Configuration, "the database server offers no TLS, and the DSN demands it",
        "Falling back to an unencrypted connection would send the cluster's secrets in clear.",
        "Set ssl_cert and ssl_key on the server, or ask for less with ssl-mode= in database.dsn.";
    DB_TLS_ISSUER = "SF-DB-TLS-ISSUER", Configuration, "the database server's certificate comes from another authority",
        "Whoever answers may not be the server that was meant.",
        "Give the authority of the server's certificate as pki.ca or ssl-ca=, or the server a certificate of this authority.";
    DB_TLS_EXPIRED = "SF-DB-TLS-EXPIRED", Configuration, "the database server's certificate has expired",
        "An expired certificate proves nothing any more.",
        "Renew the server's certificate: put the new one in place of ssl_cert, and run FLUSH SSL. If it has not expired, this node's clock is ahead (`date --utc`).";
    DB_TLS_EXPIRING = "SF-DB-TLS-EXPIRING", Environment, "the database server's certificate ends soon",
        "A warning: the agent goes on, but once it has ended no node starts.",
        "Renew the server's certificate before that: put the new one in place of ssl_cert, and run FLUSH SSL.";
    DB_TLS_NOT_YET_VALID = "SF-DB-TLS-NOT-YET-VALID", Transient, "the database server's certificate is not valid yet",
        "Mostly a clock is wrong: this node's, or that of the machine that made the certificate.",
        "See whose clock is wrong: `date --utc` here and on the machine that made the certificate. This node's: set it: date --utc --set 'YYYY-MM-DD HH:MM' (timedatectl refuses while systemd-timesyncd runs). Better, let it reach a time server: by DHCP, or NTP= in /etc/systemd/timesyncd.conf and systemctl restart systemd-timesyncd. The agent keeps trying, since the clock may just not be synchronised yet.";
    DB_TLS_NAME = "SF-DB-TLS-NAME", Configuration, "the database server's certificate is for another name",
        "Whoever answers may not be the server that was meant.",
        "Write the host in database.dsn as the certificate names it, or have the certificate issued for it.";
    DB_TLS_PROTOCOL = "SF-DB-TLS-PROTOCOL", Configuration, "the database server speaks no TLS that is still safe",
        "The agent speaks TLS 1.2 and 1.3; older ones can be broken.",
        "Set tls_version = TLSv1.2,TLSv1.3 on the server, and leave ssl_cipher at its default.";
    DB_AUTH = "SF-DB-AUTH", Configuration, "the database refuses the user or the password",
        "Trying again could lock the account.",
        "Correct user and password in database.dsn, or set the user's password on the server.";
    DB_AUTH_PLUGIN = "SF-DB-AUTH-PLUGIN", Configuration, "the database user logs in by a method that this agent does not speak",
        "The agent speaks mysql_native_password, caching_sha2_password over TLS and unix_socket.",
        "On the server: ALTER USER 'USER'@'HOST' IDENTIFIED VIA mysql_native_password USING PASSWORD('PASSWORD'); with the HOST that SELECT host FROM mysql.user WHERE user = 'USER' says.";
    DB_BLOCKED = "SF-DB-BLOCKED", Configuration, "the database server has blocked this node",
        "The server saw too many broken connections from this address.",
        "Run FLUSH HOSTS on the server and look for what breaks the connections.";
    DB_MISSING = "SF-DB-MISSING", Configuration, "the database does not exist on the server",
        "The agent makes tables, never databases: where data lives is the operator's choice.",
        "Create it: CREATE DATABASE `NAME` CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci; then run there what `sf-firstboot grants --role ROLE --database NAME --user USER --host HOST` prints, for the account that database.dsn logs in as.";
    DB_GRANTS = "SF-DB-GRANTS", Configuration, "the database user lacks privileges",
        "A bootstrap that stops half-way for want of a privilege helps nobody; all are checked first.",
        "Run on the server, as an administrator, what `sf-firstboot grants --role ROLE --user USER --host HOST` prints, USER being database.dsn's and HOST what SELECT host FROM mysql.user WHERE user = 'USER' says.";
    DB_NOT_MARIADB = "SF-DB-NOT-MARIADB", Configuration, "what answers is not MariaDB",
        "Shaken Fist supports MariaDB alone; MySQL differs in what the schema relies on.",
        "Point database.dsn at a MariaDB server, 10.11 or newer.";
    DB_TOO_OLD = "SF-DB-TOO-OLD", Configuration, "the MariaDB server is older than 10.11",
        "Shaken Fist refuses older servers, and so its daemons would not start.",
        "Upgrade the server to MariaDB 10.11 or newer.";
    DB_CHARSET = "SF-DB-CHARSET", Configuration, "the database's character set is not utf8mb4",
        "Tables inherit it, and names would be cut or compared wrongly.",
        "ALTER DATABASE `NAME` CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci.";
    DB_ENGINE = "SF-DB-ENGINE", Configuration, "an engine of the database is not InnoDB",
        "Only InnoDB has transactions and foreign keys; without them a bootstrap can stop half-way.",
        "Set default_storage_engine = InnoDB on the server.";
    DB_SCHEMA_MISSING = "SF-DB-SCHEMA-MISSING", Transient, "tables that the release makes are not there yet",
        "Each release makes its own tables; the agent does not guess their shape.",
        "Boot a database-tier node of this release, with bootstrap.mode \"auto\": it runs the release's command. The agent keeps looking.";
    DB_SCHEMA = "SF-DB-SCHEMA", Configuration, "tables in the database have another shape than expected",
        "Writing into tables that mean something else would damage them.",
        "Check that database.dsn names this cluster's database, and that the schema belongs to this release.";
    DB_SCHEMA_OLD = "SF-DB-SCHEMA-OLD", Transient, "tables in the database are older than this image's release needs",
        "Daemons of this release refuse to start on older tables.",
        "Boot a database-tier node of this release, with bootstrap.mode \"auto\": it runs the release's command. The agent keeps looking.";
    DB_SCHEMA_NEW = "SF-DB-SCHEMA-NEW", Refused, "tables in the database are newer than this image's release knows",
        "Daemons of this release refuse to start on newer tables, and would misread them.",
        "Boot an image of the release that the tables were made for.";
    SCHEMA_COMMAND = "SF-SCHEMA-COMMAND", Environment, "the release's command for its tables did not do its work",
        "Daemons of this release start only on the tables that they were built for; the command's own exit code does not tell.",
        "See the cause and the command's lines in the log; mend it, then run: systemctl restart sf-firstboot. Nothing is lost: the command goes on where it stopped.";
    SCHEMA_HELD = "SF-SCHEMA-HELD", Transient, "another node makes the release's tables",
        "The release's command does not lock itself: two at once could damage the tables.",
        "Wait for the node that is named. If it is off for good, run `sf-firstboot cluster release-claim schema`; the agent keeps looking.";
    SCHEMA_NODES = "SF-SCHEMA-NODES", Transient, "the database tier still runs another release, whose daemons would not start on the new tables",
        "Each release's sf-database starts only on exactly its own tables; once they are migrated, no node of another release can restart it.",
        "Boot this release on all nodes of the database tier; the last one to come makes the tables. `sf-firstboot cluster forget NODE` for one that is off for good.";
    DB_CONNECTIONS = "SF-DB-CONNECTIONS", Environment, "the database server has hardly a connection to spare",
        "A warning: the agent goes on, but daemons that find no free connection fail.",
        "Raise max_connections on the server, or find who holds the connections (SHOW PROCESSLIST).";
    DB_DONOR = "SF-DB-DONOR", Environment, "the Galera node is lent to another node or to a backup",
        "A warning: the agent goes on, but this server lags behind the others meanwhile.",
        "Wait for the state transfer or the backup to end, or name another node of the Galera cluster first in database.dsn.";
    DB_DAEMON_TLS = "SF-DB-DAEMON-TLS", Environment, "Shaken Fist's daemons talk to the database without TLS",
        "A warning: the agent goes on, but its release's daemons have no setting for TLS: they log in and send rows where others on that network can read them.",
        "Keep the way between these nodes and the database private (a network of its own, a VPN). A user that the server demands TLS of (REQUIRE SSL) locks the daemons out.";
    DB_DAEMON_HOST = "SF-DB-DAEMON-HOST", Environment, "Shaken Fist's daemons know only the first of the DSN's servers",
        "A warning: the agent goes on, but its release's daemons take one address: when that server is down they have no database, though the agent finds another one.",
        "Name the address of a load balancer or of a floating IP in front of the servers in database.dsn: it serves agent and daemons.";
    DB_HOST = "SF-DB-HOST", Environment, "one of the hosts in database.dsn cannot be used",
        "A warning: the agent goes on with another host; the day that one is down, there is one less to turn to.",
        "Mend that server, or take it out of database.dsn.";
    DB_STATEMENT = "SF-DB-STATEMENT", Internal, "the database refused a statement for an unexpected reason",
        "Going on after an unexpected answer could harm the cluster.",
        "Report it with the output of `journalctl -u sf-firstboot -o json`. Meanwhile `systemctl restart sf-firstboot` tries again, and the image that ran before may still do.";
    /// Bootstrap
    BOOTSTRAP_WAITING = "SF-BOOTSTRAP-WAITING", Transient, "the cluster has not been bootstrapped yet",
        "Daemons that start before the cluster's secrets exist would fail or make their own.",
        "Start a database-tier node, or see why it stopped: `sf-firstboot status` there; this node keeps waiting.";
    BOOTSTRAP_CONTENDED = "SF-BOOTSTRAP-CONTENDED", Transient, "a bootstrap operation did not get its turn",
        "Another node or transaction holds the rows; nothing was written.",
        "Look for a long transaction (SHOW ENGINE INNODB STATUS) and for a backup that holds the tables (SHOW PROCESSLIST); the agent keeps trying.";
    BOOTSTRAP_CONTRADICTION = "SF-BOOTSTRAP-CONTRADICTION", Refused, "the metadata contradicts what the cluster has",
        "The agent establishes values and never changes them: a changed seed or key locks every client out.",
        "Make the metadata agree with the cluster, or change the cluster on purpose with Shaken Fist's own tools.";
    BOOTSTRAP_DAMAGED = "SF-BOOTSTRAP-DAMAGED", Refused, "something that was bootstrapped is gone",
        "Making it anew would silently replace a secret or a namespace that the cluster relies on.",
        "Restore it from a backup of the database.";
    BOOTSTRAP_KEY = "SF-BOOTSTRAP-KEY", Configuration, "the system key cannot be used",
        "Shaken Fist would cut it off or refuse it, and nobody could log in with it.",
        "Choose a key of 1 to 72 bytes that does not start with sfk_.";
    BOOTSTRAP_SEED = "SF-BOOTSTRAP-SEED", Configuration, "the auth secret seed cannot be used",
        "Shaken Fist's configuration file cannot hold such a value.",
        "Write 24 to 128 letters, digits, dots, dashes and underscores (`openssl rand -hex 32` makes some), or leave secrets.auth_secret_seed out and let the agent generate it.";
    BOOTSTRAP_CONFIG = "SF-BOOTSTRAP-CONFIG", Configuration, "a key may not be set for the whole cluster",
        "Cluster-wide values override every node's own; a per-node key there would break all nodes at once.",
        "Move the key to [config] of the node, or use a key that the release allows cluster-wide.";
    /// Gate
    GATE_VERSION = "SF-GATE-VERSION", Refused, "this image's release may not run beside the cluster's",
        "Only two neighbouring release series may run together; others would misread each other's data.",
        "Boot an image of a series that the cluster allows.";
    GATE_WAITING = "SF-GATE-WAITING", Transient, "the cluster has no recorded version yet",
        "The version is recorded by the bootstrap; before it nothing can be compared.",
        "Start a database-tier node; this node keeps waiting.";
    GATE_RECORD = "SF-GATE-RECORD", Refused, "the cluster's version record cannot be understood",
        "A record that is not understood cannot clear anything.",
        "Look at the tables cluster_series and bootstrap_nodes; restore them from a backup.";
    GATE_CONTENDED = "SF-GATE-CONTENDED", Transient, "other nodes kept changing the version record",
        "A decision holds only for the record it was made from; nothing was written.",
        "Nothing; the agent keeps trying.";
    GATE_NO_CLEARANCE = "SF-GATE-NO-CLEARANCE", Transient, "this boot has no clearance and the database cannot be asked",
        "Daemons start only once it is known that their version may run.",
        "Bring the database back; the agent and the unit keep trying.";
    /// Claims and names
    CLAIM_HELD = "SF-CLAIM-HELD", Refused, "another node holds the role that this one claims",
        "A cluster has one network node: two would route the same floating addresses.",
        "Give this node another role, or stop the holder and run `sf-firstboot cluster release-claim network` with the DSN of an operator (`sf-firstboot grants --operator`) or of a database-tier node.";
    NODE_CLONE = "SF-NODE-CLONE", Refused, "another machine has joined the cluster under this node's name",
        "Two machines of one name would overwrite each other's state, and the record of versions would count them as one.",
        "If the other machine is off for good, run `sf-firstboot cluster forget NAME` with the DSN of an operator (`sf-firstboot grants --operator`) or of a database-tier node; if it is alive, give this node a name of its own.";
    CLAIM_FREE = "SF-CLAIM-FREE", Usage, "no node holds the role",
        "There is nothing to release.", "See `sf-firstboot cluster status`.";
    NODE_UNKNOWN = "SF-NODE-UNKNOWN", Usage, "the cluster's record has no such node",
        "There is nothing to forget.", "See `sf-firstboot cluster status` for the names.";
    NETWORK_NODE = "SF-NETWORK-NODE", Configuration, "the metadata names another network node than the one that holds the role",
        "A warning: the agent goes on, but this node sends the floating network's traffic to a node that does not route it.",
        "Correct cluster.network_node in this node's metadata, or hand the role over with `sf-firstboot cluster release-claim network`.";
    CLUSTER_LOST = "SF-CLUSTER-LOST", Refused, "the cluster that this node belongs to is not in the database",
        "To bootstrap again would make a second cluster with other secrets, beside nodes that still run the first.",
        "Correct database.dsn, or restore the database from a backup; to make a new cluster on purpose, run `sf-firstboot reset` on this node.";
    STATE_DAMAGED = "SF-STATE-DAMAGED", Refused, "what this node knows of its cluster cannot be read",
        "The database is empty: either the cluster is lost, and to bootstrap again would make a second one, or there was none.",
        "Where there was a cluster, correct database.dsn or restore the database from a backup: the file is then made anew by itself. To make a new cluster on purpose, run `sf-firstboot reset` on this node.";
}

/// The code with this id, compared without case.
pub fn find(id: &str) -> Option<&'static Code> {
    ALL.iter()
        .copied()
        .find(|code| code.id.eq_ignore_ascii_case(id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_unique_and_well_formed() {
        let mut seen = std::collections::BTreeSet::new();
        for code in ALL {
            assert!(code.id.starts_with("SF-"), "{}", code.id);
            assert!(
                code.id
                    .bytes()
                    .all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'-')
            );
            assert!(seen.insert(code.id), "{} twice", code.id);
            assert!(!code.title.is_empty() && !code.why.is_empty() && !code.remedy.is_empty());
        }
    }

    #[test]
    fn codes_are_found_without_case() {
        assert_eq!(find("sf-internal").map(|code| code.id), Some("SF-INTERNAL"));
        assert!(find("SF-NOPE").is_none());
    }
}
