//! Discovery messages: which entities exist, and how Home Assistant reads them.
//!
//! They are pure functions of a camera, the settings and the version and address of this service. The keys
//! are documented at <https://www.home-assistant.io/integrations/mqtt/#mqtt-discovery> and on the pages of
//! the platforms.

mod camera;
mod device;
mod legacy;
mod prefix;
mod service;
mod template;
#[cfg(test)]
mod tests;

pub use self::{
    camera::{camera_device, camera_device_id},
    device::Device,
    legacy::legacy_topics,
    service::{service_device, service_device_id},
};

/// The version and address of this service, which appear in discovery messages.
#[derive(Debug, Clone)]
pub struct About {
    /// The version.
    pub version: &'static str,
    /// The address for other machines.
    pub public_url: String,
}

impl About {
    /// Returns the service page's address, if it is reachable from another machine.
    fn configuration_url(&self) -> Option<&str> {
        let rest = ["http://", "https://"].iter().find_map(|scheme| self.public_url.strip_prefix(scheme))?;
        let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let loopback = ["localhost", "127.", "[::1]", "0.0.0.0", "[::]"];
        let is_reachable = !host.is_empty() && !loopback.iter().any(|local| host.starts_with(local));
        is_reachable.then_some(self.public_url.as_str())
    }
}
