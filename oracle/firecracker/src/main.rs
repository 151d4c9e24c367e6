//! Firecracker's CPUID code for hosts that are played to it: a JSON request a line on standard input, a JSON answer a line on standard output.
//!
//! Request: `host`, the CPUID instruction as rows [leaf, sub-leaf, eax, ebx, ecx, edx] (what has no row reads zero); `supported`, the rows of
//! KVM_GET_SUPPORTED_CPUID as [leaf, sub-leaf, flags, eax, ebx, ecx, edx]; `template`, null, the name of a static template or a custom one;
//! `vcpus`, `smt`, and `msrs`, what KVM_GET_MSRS reads, as rows [index, value].
//! Answer: `tables`, a vCPU's rows each, and `msrs`; or `error` with the message; and `warnings`.
//! A request with `parse`, a text, asks for the template that Firecracker reads from it: `template`, as it writes it, or `error`.

mod arch {
    pub mod x86_64 {
        pub mod cpu_model;
        pub mod generated {
            pub mod msr_index;
        }
        pub use generated as gen;
    }
}
mod cpu_config;

mod host {
    use std::arch::x86_64::CpuidResult;
    use std::cell::RefCell;
    use std::collections::HashMap;

    thread_local! { static ROWS: RefCell<HashMap<(u32, u32), [u32; 4]>> = RefCell::default(); }

    pub fn play(rows: HashMap<(u32, u32), [u32; 4]>) {
        ROWS.with(|cell| *cell.borrow_mut() = rows);
    }

    pub fn cpuid_count(leaf: u32, subleaf: u32) -> CpuidResult {
        let [eax, ebx, ecx, edx] = ROWS.with(|cell| cell.borrow().get(&(leaf, subleaf)).copied().unwrap_or_default());
        CpuidResult { eax, ebx, ecx, edx }
    }

    pub fn cpuid(leaf: u32) -> CpuidResult {
        cpuid_count(leaf, 0)
    }

    pub fn cpuid_max(leaf: u32) -> (u32, u32) {
        let first = cpuid(leaf);
        (first.eax, first.ebx)
    }
}

mod logger {
    thread_local! { pub static WARNINGS: std::cell::RefCell<Vec<String>> = std::cell::RefCell::default(); }
    macro_rules! warn_ {
        ($($arg:tt)*) => { $crate::logger::WARNINGS.with(|cell| cell.borrow_mut().push(format!($($arg)*))) };
    }
    pub(crate) use warn_ as warn;
}

mod vmm_config {
    pub mod machine_config {
        pub const MAX_SUPPORTED_VCPUS: u8 = 32;
    }
}

mod vstate {
    pub mod vcpu {
        /// Never met: no vCPU is asked.
        #[derive(Debug, PartialEq, Eq, thiserror::Error, displaydoc::Display)]
        pub enum KvmVcpuError {
            /// no vCPU
            None,
        }
    }
}

/// Never met either; releases up to 1.16 name it.
pub struct Vcpu {
    pub kvm_vcpu: KvmVcpu,
}

pub struct KvmVcpu;

impl KvmVcpu {
    pub fn get_msrs(&self, _: impl ExactSizeIterator<Item = u32>) -> Result<BTreeMap<u32, u64>, vstate::vcpu::KvmVcpuError> {
        Err(vstate::vcpu::KvmVcpuError::None)
    }
}

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::{BufRead, Write};

use cpu_config::templates::{CpuTemplateType, CustomCpuTemplate, GetCpuTemplate, StaticCpuTemplate};
use cpu_config::x86_64::cpuid::Cpuid;
use kvm_bindings::{kvm_cpuid_entry2, CpuId};
use serde_json::{json, Value};

fn rows<const N: usize>(value: &Value) -> Vec<[u32; N]> {
    serde_json::from_value::<Vec<Vec<u32>>>(value.clone()).unwrap().into_iter().map(|row| row.try_into().unwrap()).collect()
}

#[cfg(feature = "staged")]
fn apply(cpuid: Cpuid, msrs: BTreeMap<u32, u64>, template: &CustomCpuTemplate) -> Result<(Cpuid, BTreeMap<u32, u64>), String> {
    use cpu_config::x86_64::{apply_template_to_cpuid, apply_template_to_msrs};
    let cpuid = apply_template_to_cpuid(cpuid, template).map_err(|error| error.to_string())?;
    Ok((cpuid, apply_template_to_msrs(msrs, template).map_err(|error| error.to_string())?))
}

#[cfg(not(feature = "staged"))]
fn apply(cpuid: Cpuid, msrs: BTreeMap<u32, u64>, template: &CustomCpuTemplate) -> Result<(Cpuid, BTreeMap<u32, u64>), String> {
    let config = cpu_config::x86_64::CpuConfiguration { cpuid, msrs };
    let config = config.apply_template(template).map_err(|error| error.to_string())?;
    Ok((config.cpuid, config.msrs))
}

fn answer(request: &Value) -> Result<Value, String> {
    if let Some(text) = request["parse"].as_str() {
        let template = CustomCpuTemplate::try_from(text).map_err(|error| error.to_string())?;
        return Ok(json!({ "template": template }));
    }
    host::play(rows::<6>(&request["host"]).into_iter().map(|[leaf, subleaf, a, b, c, d]| ((leaf, subleaf), [a, b, c, d])).collect());
    let template = match &request["template"] {
        Value::Null => None,
        Value::String(name) => {
            let name: StaticCpuTemplate = serde_json::from_value(json!(name)).map_err(|error| error.to_string())?;
            Some(CpuTemplateType::Static(name))
        }
        custom => Some(CpuTemplateType::Custom(CustomCpuTemplate::try_from(custom.to_string().as_str()).map_err(|error| error.to_string())?)),
    };
    let template: Cow<CustomCpuTemplate> = template.get_cpu_template().map_err(|error| error.to_string())?;
    let entries: Vec<kvm_cpuid_entry2> = rows::<7>(&request["supported"])
        .into_iter()
        .map(|[function, index, flags, eax, ebx, ecx, edx]| kvm_cpuid_entry2 { function, index, flags, eax, ebx, ecx, edx, ..Default::default() })
        .collect();
    let supported = CpuId::from_entries(&entries).map_err(|error| format!("{error:?}"))?;
    let cpuid = Cpuid::try_from(supported).map_err(|error| cpu_config::templates::GuestConfigError::CpuidFromKvmCpuid(error).to_string())?;
    let msrs = serde_json::from_value::<Vec<(u32, u64)>>(request["msrs"].clone()).unwrap_or_default().into_iter().collect();
    let (cpuid, msrs) = apply(cpuid, msrs, &template)?;
    let vcpus = request["vcpus"].as_u64().unwrap() as u8;
    let smt = request["smt"].as_bool().unwrap();
    let mut tables = Vec::new();
    for index in 0..vcpus {
        let mut cpuid = cpuid.clone();
        cpuid.normalize(index, vcpus, u8::from(vcpus > 1 && smt)).map_err(|error| error.to_string())?;
        let table = CpuId::try_from(cpuid).map_err(|error| format!("{error:?}"))?;
        let rows: Vec<_> = table.as_slice().iter().map(|e| [e.function, e.index, e.flags, e.eax, e.ebx, e.ecx, e.edx]).collect();
        tables.push(rows);
    }
    Ok(json!({"tables": tables, "msrs": msrs.into_iter().collect::<Vec<_>>()}))
}

fn main() {
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    for line in std::io::stdin().lock().lines() {
        let request: Value = serde_json::from_str(&line.unwrap()).unwrap();
        let mut value = answer(&request).unwrap_or_else(|error| json!({ "error": error }));
        value["warnings"] = json!(logger::WARNINGS.with(|cell| cell.take()));
        serde_json::to_writer(&mut out, &value).unwrap();
        out.write_all(b"\n").unwrap();
        out.flush().unwrap();
    }
}
