//! What is specific to the app of Home Assistant: its Supervisor provides the broker and the options.

mod inquiry;
mod schedule;

pub use self::inquiry::BrokerInquiry;
