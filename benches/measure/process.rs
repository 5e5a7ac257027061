//! What the kernel says of a process: memory and processor time, from `/proc`.

use crate::Result;
use std::path::PathBuf;

/// A process of this machine, as seen from outside of any container.
#[derive(Clone, Copy, Debug)]
pub struct Process(u32);

impl Process {
    /// By its id.
    pub fn new(pid: u32) -> Self {
        Self(pid)
    }

    /// The process of a container, by the container's id: the path of its control group names it.
    pub fn of_container(id: &str) -> Result<Self> {
        let processes = std::fs::read_dir("/proc")?.flatten();
        let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        pids.map(Self)
            .find(|process| std::fs::read_to_string(process.file("cgroup")).is_ok_and(|groups| groups.contains(id)))
            .ok_or_else(|| format!("no process of container {id} on this machine: does the node run here?").into())
    }

    /// Most memory it ever had, in MiB.
    pub fn peak_memory(self) -> Result<f64> {
        self.status("VmHWM:")
    }

    /// From now on only what it has from now on counts as its peak.
    pub fn forget_peak(self) -> Result<()> {
        Ok(std::fs::write(self.file("clear_refs"), "5")?)
    }

    /// Memory it has, in MiB.
    pub fn memory(self) -> Result<f64> {
        self.status("VmRSS:")
    }

    /// Seconds of a processor it has used.
    pub fn processor_seconds(self) -> Result<f64> {
        let text = std::fs::read_to_string(self.file("stat"))?;
        // The name, in parentheses, may hold anything; utime and stime are the 12th and 13th after it.
        let after = text.rsplit_once(')').map_or("", |(_, after)| after);
        let ticks = after.split_whitespace().skip(11).take(2).map(str::parse::<f64>);
        let ticks: f64 = ticks.sum::<std::result::Result<f64, _>>()?;
        // USER_HZ is 100 on every architecture that Linux tells user space about.
        Ok(ticks / 100.0)
    }

    fn status(self, field: &str) -> Result<f64> {
        let text = std::fs::read_to_string(self.file("status"))?;
        let line =
            text.lines().find_map(|line| line.strip_prefix(field)).ok_or("the process has no memory: it ended")?;
        let kibibytes: f64 = line.trim().trim_end_matches("kB").trim().parse()?;
        Ok(kibibytes / 1024.0)
    }

    fn file(self, name: &str) -> PathBuf {
        format!("/proc/{}/{name}", self.0).into()
    }
}

/// The processes of this machine whose arguments, after their program, begin with these.
pub fn with_arguments<'a>(arguments: &'a [&'a str]) -> impl Iterator<Item = Process> + 'a {
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.map(Process).filter(move |process| {
        let line = std::fs::read(process.file("cmdline")).unwrap_or_default();
        let mut told = line.split(|byte| *byte == 0).skip(1);
        arguments.iter().all(|argument| told.next() == Some(argument.as_bytes()))
    })
}
