//! QEMU's command line and the files it reads, as a pure function of a
//! machine: nothing is started here.

use std::net::Ipv4Addr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use camino::{Utf8Path, Utf8PathBuf};
use sf_command::{Cmd, Tool};

/// How instructions of a machine are executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Accel {
    /// By the processor.
    Kvm,
    /// By QEMU's emulator.
    Tcg,
}

impl Accel {
    /// How many times longer than on hardware everything may take.
    pub fn scale(self) -> u32 {
        match self {
            Self::Kvm => 1,
            Self::Tcg => 5,
        }
    }

    /// Its name in QEMU and in results.
    pub fn name(self) -> &'static str {
        match self {
            Self::Kvm => "kvm",
            Self::Tcg => "tcg",
        }
    }
}

/// Firmware files of the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Firmware {
    /// Code, read-only.
    pub code: Utf8PathBuf,
    /// Template of the variables, copied for each machine.
    pub variables: Utf8PathBuf,
}

/// Where distributions put OVMF: Debian and Ubuntu, Arch.
const FIRMWARE: [(&str, &str); 2] = [
    (
        "/usr/share/OVMF/OVMF_CODE_4M.fd",
        "/usr/share/OVMF/OVMF_VARS_4M.fd",
    ),
    (
        "/usr/share/edk2/x64/OVMF_CODE.4m.fd",
        "/usr/share/edk2/x64/OVMF_VARS.4m.fd",
    ),
];

impl Firmware {
    /// The host's firmware without Secure Boot keys.
    pub fn find() -> Option<Self> {
        FIRMWARE
            .into_iter()
            .map(|(code, variables)| Self {
                code: code.into(),
                variables: variables.into(),
            })
            .find(|firmware| firmware.code.exists() && firmware.variables.exists())
    }
}

/// A machine about to be switched on.
#[derive(Clone, Debug)]
pub struct Machine {
    /// Name, for QEMU's process.
    pub name: String,
    /// How it runs.
    pub accel: Accel,
    /// MiB of memory.
    pub memory: u64,
    /// Virtual processors.
    pub cpus: u8,
    /// Firmware code, read-only.
    pub firmware: Utf8PathBuf,
    /// The machine's own copy of the firmware's variables.
    pub variables: Utf8PathBuf,
    /// Raw disk, writable.
    pub disk: Utf8PathBuf,
    /// Its address.
    pub address: Ipv4Addr,
    /// Host port to guest port.
    pub forward: Vec<(u16, u16)>,
    /// Folder for logs and sockets of this boot.
    pub folder: Utf8PathBuf,
    /// More raw disks, read-only.
    pub drives: Vec<Utf8PathBuf>,
    /// Files with one SMBIOS string each.
    pub smbios: Vec<Utf8PathBuf>,
    /// Names and files of `fw_cfg`.
    pub fw_cfg: Vec<(String, Utf8PathBuf)>,
}

impl Machine {
    /// Log of the serial console.
    pub fn console(&self) -> Utf8PathBuf {
        self.folder.join("console.log")
    }

    /// Lines of the result port.
    pub fn results(&self) -> Utf8PathBuf {
        self.folder.join("result.jsonl")
    }

    /// Socket of the inspection channel.
    pub fn inspect(&self) -> Utf8PathBuf {
        self.folder.join("inspect.sock")
    }

    /// Socket of QEMU's own control channel.
    pub fn control(&self) -> Utf8PathBuf {
        self.folder.join("qmp.sock")
    }

    /// The command that runs it. Values travel in files: an argument is
    /// readable by every user of the host.
    pub fn command(&self) -> Cmd {
        let cpu = match self.accel {
            Accel::Kvm => "host",
            Accel::Tcg => "max",
        };
        let accel = match self.accel {
            Accel::Kvm => "kvm",
            Accel::Tcg => "tcg,thread=multi",
        };
        let mut net = vec![
            "user,id=net0,ipv6=off,net=10.0.2.0/24,host=10.0.2.2,dns=10.0.2.3".to_owned(),
            format!("dhcpstart={}", self.address),
        ];
        net.extend(
            self.forward
                .iter()
                .map(|(host, guest)| format!("hostfwd=tcp:127.0.0.1:{host}-:{guest}")),
        );
        let mut cmd = Cmd::new(Tool::QemuSystemX86)
            .args(["-name", &format!("sf-boot-test-{}", self.name)])
            .args(["-nodefaults", "-no-user-config", "-display", "none"])
            // The 32-bit entry point limits all SMBIOS strings to 64 KiB together.
            .args(["-machine", "q35,smbios-entry-point-type=64"])
            .args(["-accel", accel, "-cpu", cpu])
            .args([
                "-smp",
                &self.cpus.to_string(),
                "-m",
                &format!("{}M", self.memory),
            ])
            .args(["-drive", &pflash(0, "on", &self.firmware)])
            .args(["-drive", &pflash(1, "off", &self.variables)])
            // The disk is thrown away: the host's cache is as good as the disk.
            .args([
                "-drive",
                &format!(
                    "if=none,id=disk0,format=raw,cache=unsafe,discard=unmap,file={}",
                    self.disk
                ),
            ])
            .args(["-device", "virtio-blk-pci,drive=disk0,bootindex=1,addr=0x1"])
            .args(["-netdev", &net.join(",")])
            // A fixed slot, so that the interface is always enp0s2; an MTU as the
            // mesh network of a cluster must have it.
            .args([
                "-device",
                "virtio-net-pci,netdev=net0,romfile=,addr=0x2,host_mtu=2000",
            ])
            .args(["-object", "rng-random,id=rng0,filename=/dev/urandom"])
            .args(["-device", "virtio-rng-pci,rng=rng0"])
            .args([
                "-chardev",
                &format!("file,id=console,path={}", self.console()),
            ])
            .args(["-serial", "chardev:console"])
            .args(["-device", "virtio-serial-pci"])
            .args([
                "-chardev",
                &format!("file,id=result,path={}", self.results()),
            ])
            .args(["-device", "virtserialport,chardev=result,name=sf.result"])
            .args([
                "-chardev",
                &format!(
                    "socket,id=inspect,server=on,wait=off,path={}",
                    self.inspect()
                ),
            ])
            .args(["-device", "virtserialport,chardev=inspect,name=sf.inspect"])
            .args([
                "-qmp",
                &format!("unix:{},server=on,wait=off", self.control()),
            ]);
        for (index, file) in self.drives.iter().enumerate() {
            cmd = cmd
                .args([
                    "-drive",
                    &format!("if=none,id=drive{index},format=raw,readonly=on,file={file}"),
                ])
                .args(["-device", &format!("virtio-blk-pci,drive=drive{index}")]);
        }
        for file in &self.smbios {
            cmd = cmd.args(["-smbios", &format!("type=11,path={file}")]);
        }
        for (name, file) in &self.fw_cfg {
            cmd = cmd.args(["-fw_cfg", &format!("name={name},file={file}")]);
        }
        cmd.log_to(self.folder.join("qemu.log"))
    }
}

fn pflash(unit: u8, readonly: &str, file: &Utf8Path) -> String {
    format!("if=pflash,format=raw,unit={unit},readonly={readonly},file={file}")
}

/// The SMBIOS string that passes a credential. Base64 carries any byte.
pub fn credential(name: &str, value: &[u8]) -> String {
    format!(
        "io.systemd.credential.binary:{name}={}",
        STANDARD.encode(value)
    )
}

/// The kernel argument that passes a credential.
pub fn credential_argument(name: &str, value: &[u8]) -> String {
    format!(
        "systemd.set_credential_binary={name}:{}",
        STANDARD.encode(value)
    )
}

/// The SMBIOS string that adds to the kernel's command line.
pub fn kernel_arguments(text: &str) -> String {
    format!("io.systemd.stub.kernel-cmdline-extra={text}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(accel: Accel) -> Machine {
        Machine {
            name: "db1".into(),
            accel,
            memory: 2048,
            cpus: 2,
            firmware: "/f/CODE.fd".into(),
            variables: "/w/db1/VARS.fd".into(),
            disk: "/w/db1/disk.raw".into(),
            address: Ipv4Addr::new(10, 0, 2, 15),
            forward: vec![(40_001, 13_000)],
            folder: "/w/db1/boot1".into(),
            drives: vec!["/w/db1/boot1/drive.0".into()],
            smbios: vec!["/w/db1/boot1/smbios.0".into()],
            fw_cfg: vec![("opt/x/key".into(), "/w/db1/boot1/fw_cfg.0".into())],
        }
    }

    #[test]
    fn the_command_line() {
        let line = machine(Accel::Tcg)
            .command()
            .to_string()
            .replace(" -", "\n-");
        insta::assert_snapshot!(line, @r"
        qemu-system-x86_64
        -name sf-boot-test-db1
        -nodefaults
        -no-user-config
        -display none
        -machine q35,smbios-entry-point-type=64
        -accel tcg,thread=multi
        -cpu max
        -smp 2
        -m 2048M
        -drive if=pflash,format=raw,unit=0,readonly=on,file=/f/CODE.fd
        -drive if=pflash,format=raw,unit=1,readonly=off,file=/w/db1/VARS.fd
        -drive if=none,id=disk0,format=raw,cache=unsafe,discard=unmap,file=/w/db1/disk.raw
        -device virtio-blk-pci,drive=disk0,bootindex=1,addr=0x1
        -netdev user,id=net0,ipv6=off,net=10.0.2.0/24,host=10.0.2.2,dns=10.0.2.3,dhcpstart=10.0.2.15,hostfwd=tcp:127.0.0.1:40001-:13000
        -device virtio-net-pci,netdev=net0,romfile=,addr=0x2,host_mtu=2000
        -object rng-random,id=rng0,filename=/dev/urandom
        -device virtio-rng-pci,rng=rng0
        -chardev file,id=console,path=/w/db1/boot1/console.log
        -serial chardev:console
        -device virtio-serial-pci
        -chardev file,id=result,path=/w/db1/boot1/result.jsonl
        -device virtserialport,chardev=result,name=sf.result
        -chardev socket,id=inspect,server=on,wait=off,path=/w/db1/boot1/inspect.sock
        -device virtserialport,chardev=inspect,name=sf.inspect
        -qmp unix:/w/db1/boot1/qmp.sock,server=on,wait=off
        -drive if=none,id=drive0,format=raw,readonly=on,file=/w/db1/boot1/drive.0
        -device virtio-blk-pci,drive=drive0
        -smbios type=11,path=/w/db1/boot1/smbios.0
        -fw_cfg name=opt/x/key,file=/w/db1/boot1/fw_cfg.0
        ");
    }

    #[test]
    fn hardware_acceleration_takes_the_hosts_processor() {
        let line = machine(Accel::Kvm).command().to_string();
        assert!(line.contains("-accel kvm -cpu host"), "{line}");
    }

    #[test]
    fn credentials_are_base64() {
        assert_eq!(
            credential("sf.metadata", b"schema = 1\n"),
            "io.systemd.credential.binary:sf.metadata=c2NoZW1hID0gMQo="
        );
    }
}
