//! The messages themselves: which entities there are, and how Home Assistant reads them.
//!
//! Pure functions of a camera, the settings and what is known of this service. Keys and their meaning are those of
//! <https://www.home-assistant.io/integrations/mqtt/#mqtt-discovery> and of the pages of its platforms.

mod camera;
mod device;
mod legacy;
#[cfg(test)]
mod schema;
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

/// What entities tell of this service.
#[derive(Debug, Clone)]
pub struct About {
    /// Its version.
    pub version: &'static str,
    /// Where it is reached from elsewhere.
    pub public_url: String,
}

impl About {
    /// Where a person finds the service's page, if that leads anywhere from another machine.
    fn configuration_url(&self) -> Option<&str> {
        let rest = ["http://", "https://"].iter().find_map(|scheme| self.public_url.strip_prefix(scheme))?;
        let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let loopback = ["localhost", "127.", "[::1]", "0.0.0.0", "[::]"];
        let leads = !host.is_empty() && !loopback.iter().any(|local| host.starts_with(local));
        leads.then_some(self.public_url.as_str())
    }
}
