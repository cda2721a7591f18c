//! The metadata services of clouds. Which cloud this is, is read from DMI
//! alone: an address that answers proves nothing, and asking around blindly
//! hands the node to whoever answers first. The marks are those that
//! cloud-init's `ds-identify` goes by.

mod azure;
mod ec2;
mod gce;
mod openstack;

use sf_contract::metadata::Layer;
use zeroize::Zeroizing;

use super::fetch::{self, Problem, Said, Server};
use super::http::{Answer, Carrier, Request, Trouble, Url};
use super::{Found, Looked, Places, Remote, Tell, drive, envelope, url};
use crate::codes;
use crate::failure::Failure;

pub use azure::decode as decode_azure;

/// Link-local, and the same on all of these clouds.
pub(super) const SERVICE: &str = "http://169.254.169.254";
/// Where the kernel shows what the firmware says of the machine.
const DMI: &str = "/sys/class/dmi/id";

/// The way out where a cloud's service is of no use.
const SWITCH_OFF: &str = "switch it off (sf.metadata_cloud=no on the kernel command line, or a credential sf.metadata_cloud that says no) and give the metadata by another source";

/// A cloud whose metadata service is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cloud {
    /// Amazon EC2.
    Ec2,
    /// `OpenStack`, by any provider.
    OpenStack,
    /// Google Compute Engine.
    Gce,
    /// Microsoft Azure.
    Azure,
}

/// What the firmware says of the machine; empty where it says nothing.
#[derive(Clone, Debug, Default)]
pub struct Dmi {
    /// `sys_vendor`
    pub sys_vendor: String,
    /// `bios_vendor`
    pub bios_vendor: String,
    /// `product_name`
    pub product_name: String,
    /// `product_uuid`
    pub product_uuid: String,
    /// `product_serial`
    pub product_serial: String,
    /// `chassis_asset_tag`
    pub chassis_asset_tag: String,
}

impl Dmi {
    fn read(places: &Places) -> Self {
        let read = |name: &str| {
            // What cannot be read says nothing: this is how the kernel shows
            // fields that the firmware leaves out.
            crate::read::text(&places.at(DMI).join(name))
                .map(|text| text.trim().to_owned())
                .unwrap_or_default()
        };
        Self {
            sys_vendor: read("sys_vendor"),
            bios_vendor: read("bios_vendor"),
            product_name: read("product_name"),
            product_uuid: read("product_uuid"),
            product_serial: read("product_serial"),
            chassis_asset_tag: read("chassis_asset_tag"),
        }
    }
}

impl Cloud {
    /// The cloud that the machine is in, if it says so.
    pub fn detect(dmi: &Dmi) -> Option<Self> {
        let tag = dmi.chassis_asset_tag.as_str();
        let (uuid, serial) = (&dmi.product_uuid, &dmi.product_serial);
        // Machines under Xen: both are the same and start with ec2.
        let xen = uuid.eq_ignore_ascii_case(serial)
            && uuid
                .get(..3)
                .is_some_and(|start| start.eq_ignore_ascii_case("ec2"));
        if dmi.sys_vendor == "Amazon EC2" || dmi.bios_vendor == "Amazon EC2" || xen {
            Some(Self::Ec2)
        } else if tag == "7783-7084-3265-9085-8269-3286-77" {
            Some(Self::Azure)
        } else if dmi.product_name == "Google Compute Engine" || serial.starts_with("GoogleCloud-")
        {
            Some(Self::Gce)
        } else if ["OpenStack Nova", "OpenStack Compute"]
            .iter()
            .any(|name| dmi.product_name == *name || tag == *name)
            || [
                "OpenTelekomCloud",
                "SAP CCloud VM",
                "HUAWEICLOUD",
                "Samsung Cloud Platform",
            ]
            .contains(&tag)
        {
            Some(Self::OpenStack)
        } else {
            None
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Ec2 => "EC2",
            Self::OpenStack => "OpenStack",
            Self::Gce => "GCE",
            Self::Azure => "Azure",
        }
    }

    /// What to do when the user data is for another program.
    pub(super) fn instead(self) -> &'static str {
        match self {
            Self::Gce => {
                "Put this node's metadata into the instance attribute sf-metadata: it wins over user-data, which can stay for cloud-init."
            }
            _ => {
                "Make this node's metadata, which is TOML, the user data; or switch the cloud off (sf.metadata_cloud=no on the kernel command line, or a credential sf.metadata_cloud that says no) and give the metadata by another source."
            }
        }
    }

    pub(super) async fn ask(self, base: &Url, carrier: &mut impl Carrier) -> Result<Said, Problem> {
        let mut service = Service {
            cloud: self,
            base,
            carrier,
        };
        match self {
            Self::Ec2 => ec2::ask(&mut service).await,
            Self::OpenStack => openstack::ask(&mut service).await,
            Self::Gce => gce::ask(&mut service).await,
            Self::Azure => azure::ask(&mut service).await,
        }
    }
}

pub(super) fn service(places: &Places, tell: Tell<'_>) -> Vec<Looked> {
    let at = |found| vec![Looked::new(Layer::Cloud, "cloud metadata service", found)];
    let absent = |why: &str| at(Found::NotHere(why.into()));
    if places.remote == Remote::Skip {
        return absent(super::SKIPPED);
    }
    let Some(cloud) = Cloud::detect(&Dmi::read(places)) else {
        return absent(
            "by its DMI this machine is in none of the clouds EC2, OpenStack, GCE, Azure",
        );
    };
    match url::cloud_is_off(places) {
        Err(failure) => return at(Found::Broken(failure)),
        Ok(Some(from)) => return absent(&format!("not asked: it is switched off ({from})")),
        Ok(None) => {}
    }
    if cloud == Cloud::OpenStack && drive::openstack_is_here(places) {
        return absent("not asked: OpenStack gave this machine a config drive");
    }
    let base = match Url::parse(&places.service) {
        Ok(base) => base,
        Err(why) => {
            let failure = Failure::new(&codes::INTERNAL, format!("{}: {why}", places.service));
            return at(Found::Broken(Box::new(failure)));
        }
    };
    vec![fetch::look(
        Layer::Cloud,
        &Server::Cloud(cloud, base),
        places,
        tell,
    )]
}

/// A conversation with a metadata service.
struct Service<'s, C> {
    cloud: Cloud,
    base: &'s Url,
    carrier: &'s mut C,
}

impl<C: Carrier> Service<'_, C> {
    fn get(&self, path: &str) -> Request {
        Request::get(self.base.at(path))
    }

    async fn send(&mut self, request: &Request) -> Result<Answer, Problem> {
        (self.carrier)(request)
            .await
            .map_err(|trouble| self.problem(&trouble, request))
    }

    /// The document; `None` when the service has none.
    async fn document(&mut self, request: &Request) -> Result<Option<Zeroizing<Vec<u8>>>, Problem> {
        let answer = self.send(request).await?;
        answer
            .document()
            .map_err(|trouble| self.problem(&trouble, request))
    }

    /// The cloud's name for this instance, from a plain text. It is shown and
    /// nothing more: who has no answer to this does without.
    async fn instance(&mut self, request: Request) -> Option<String> {
        let request = Request {
            once: true,
            ..request
        };
        let id = self.document(&request).await.ok().flatten();
        id.as_deref().and_then(|id| id_of(id))
    }

    /// What the service says of the instance itself, which it does for every one.
    /// It is asked first: while a service does not know the instance yet
    /// (`OpenStack`'s before the port is bound, Azure's while it starts) it says
    /// 404 to everything, and nothing about user data by that.
    async fn known(&mut self, request: Request) -> Result<Zeroizing<Vec<u8>>, Problem> {
        let request = Request {
            not_now: &[404, 410],
            ..request
        };
        let answer = self.send(&request).await?;
        match answer.status {
            200 => Ok(answer.body),
            status => Err(self.problem(&Trouble::Status(status), &request)),
        }
    }

    fn source(&self) -> String {
        format!("{} metadata service", self.cloud.name())
    }

    fn problem(&self, trouble: &Trouble, request: &Request) -> Problem {
        let problem = Problem::of(trouble, &request.url, &self.source());
        // Nothing that is said about sf.metadata_url helps here.
        problem.remedy(&if trouble.transient() {
            format!("The agent keeps trying. If this machine has no metadata service, {SWITCH_OFF}.")
        } else {
            let cloud = self.cloud.name();
            format!(
                "Something else answers in the place of {cloud}'s metadata service (a proxy, a portal), or it refuses this machine: look at what {cloud} says of this machine's metadata and user data; or {SWITCH_OFF}."
            )
        })
    }

    fn nothing(&self, path: &str) -> Said {
        Said::Nothing(format!(
            "the {} has no user data for this machine (404 or empty for {path})",
            self.source()
        ))
    }
}

/// The id that is all of an answer.
fn id_of(text: &[u8]) -> Option<String> {
    envelope::clean(&String::from_utf8_lossy(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clouds_are_known_by_their_marks() {
        let dmi = |field: &str, value: &str| {
            let mut dmi = Dmi::default();
            let place = match field {
                "sys_vendor" => &mut dmi.sys_vendor,
                "bios_vendor" => &mut dmi.bios_vendor,
                "product_name" => &mut dmi.product_name,
                "chassis_asset_tag" => &mut dmi.chassis_asset_tag,
                _ => &mut dmi.product_serial,
            };
            value.clone_into(place);
            Cloud::detect(&dmi)
        };
        for (field, value, cloud) in [
            ("sys_vendor", "Amazon EC2", Some(Cloud::Ec2)),
            ("bios_vendor", "Amazon EC2", Some(Cloud::Ec2)),
            ("product_name", "Google Compute Engine", Some(Cloud::Gce)),
            ("product_serial", "GoogleCloud-1234", Some(Cloud::Gce)),
            ("product_name", "OpenStack Nova", Some(Cloud::OpenStack)),
            (
                "chassis_asset_tag",
                "OpenStack Compute",
                Some(Cloud::OpenStack),
            ),
            ("chassis_asset_tag", "HUAWEICLOUD", Some(Cloud::OpenStack)),
            (
                "chassis_asset_tag",
                "Samsung Cloud Platform",
                Some(Cloud::OpenStack),
            ),
            (
                "chassis_asset_tag",
                "7783-7084-3265-9085-8269-3286-77",
                Some(Cloud::Azure),
            ),
            ("product_name", "Standard PC (Q35 + ICH9, 2009)", None),
            ("sys_vendor", "QEMU", None),
            ("sys_vendor", "Microsoft Corporation", None),
            ("product_serial", "ec2e1916", None),
        ] {
            assert_eq!(dmi(field, value), cloud, "{field} {value}");
        }
        let xen = Dmi {
            product_uuid: "EC2E1916-9099-7CAF-FD21-012345ABCDEF".into(),
            product_serial: "ec2e1916-9099-7caf-fd21-012345abcdef".into(),
            ..Dmi::default()
        };
        assert_eq!(Cloud::detect(&xen), Some(Cloud::Ec2));
        assert_eq!(Cloud::detect(&Dmi::default()), None);
    }
}
