//! The GPU of the visitor, whether a bundle fits it, and which kernels compute right there.

use std::cell::RefCell;

use js_sys::{Function, Object, Promise, Reflect};
use serde_json::{Value, json};
use wasm_bindgen::prelude::wasm_bindgen;
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::JsFuture;

use super::Failure;
use super::failure::over_limit;
use super::loader::dtype_on_gpu;
use crate::bundle::Manifest;
use crate::gpu::{Class, Gpu, GpuOptions};
use crate::model::decoder::attention_layers;
use crate::model::weights::{bytes_on_gpu, least_binding, matrix_dtypes};
use crate::ops::weight_dtype::WeightDtype;
use crate::selftest::{self, Trial, Verdict, Work};

/// An opened GPU. It is unusable after `OutOfMemory` or `DeviceLost`: open another.
#[wasm_bindgen]
pub struct Engine {
    options: GpuOptions,
    /// With all optional kernels that suit the adapter. None of them is used before it is tried.
    gpu: RefCell<Gpu>,
    /// With those that suit the judge that came last, and the verdict on each that was tried for it.
    chosen: RefCell<Option<(Gpu, Vec<Verdict>)>>,
    /// Vendor, architecture and description, as far as the browser names them.
    adapter: [String; 3],
}

#[wasm_bindgen]
impl Engine {
    /// Opens the best adapter with all the limits that it has. `subgroups` says that devices are asked for them if the adapter has
    /// them, as `lib/subgroups.js` does: wgpu does not in browsers.
    ///
    /// # Errors
    /// `NoWebGpu`, `NoAdapter`.
    pub async fn open(subgroups: Option<bool>) -> Result<Engine, Failure> {
        let Some(webgpu) = webgpu() else {
            let message =
                "This browser has no WebGPU: use a current Chrome, Edge, Safari or Firefox, on a page from https or localhost.";
            return Err(Failure::new("NoWebGpu", message));
        };
        let options = GpuOptions { basic: !subgroups.unwrap_or(false), ..GpuOptions::default() };
        let gpu = RefCell::new(Gpu::open_untested(&options).await?);
        let adapter = describe(&webgpu).await.unwrap_or_default();
        Ok(Engine { options, gpu, chosen: RefCell::new(None), adapter })
    }

    /// Tries the optional kernels that suit the adapter on what the judge of this `manifest.json` computes, against sums in f64, and
    /// uses those that are right for the judges that are loaded from now on. Returns the verdicts as JSON: see [`verdicts`].
    /// Without this call judges run on plain kernels. `keep_half_precision` is that of the [`Loader`](super::Loader).
    ///
    /// # Errors
    /// `BadBundle`, and what the GPU reports.
    pub async fn choose_kernels(&self, manifest: &str, keep_half_precision: bool) -> Result<String, Failure> {
        let manifest = Manifest::parse(manifest)?;
        let trial = trial(&manifest, Work::Judging, keep_half_precision)?;
        let gpu = self.gpu.borrow().clone();
        let (chosen, found) = selftest::tried(&self.options, gpu.clone(), &trial).await?;
        if !chosen.same_device(&gpu) {
            // One kernel was refused, and its device can do nothing more.
            *self.gpu.borrow_mut() = chosen.clone();
        }
        let told = verdicts(&found).to_string();
        *self.chosen.borrow_mut() = Some((chosen, found));
        Ok(told)
    }

    /// What a page shows of the adapter, as JSON.
    pub fn info(&self) -> String {
        let [vendor, architecture, description] = &self.adapter;
        let (gpu, chosen) = (self.gpu.borrow(), self.chosen.borrow());
        let named = [description, &gpu.facts().name, architecture, vendor].into_iter().find(|name| !name.is_empty());
        json!({
            "adapter": named.map_or("a GPU that the browser does not name", String::as_str),
            "vendor": vendor,
            "architecture": architecture,
            "description": description,
            "software": gpu.facts().class == Class::Software,
            "limits": {
                "maxStorageBufferBindingSize": gpu.max_binding(),
                "maxBufferSize": gpu.max_buffer(),
            },
            "kernels": chosen.as_ref().map(|(_, found)| verdicts(found)),
        })
        .to_string()
    }
}

impl Engine {
    /// The GPU for a judge, with the kernels that were chosen.
    pub(super) fn gpu(&self) -> Gpu {
        self.chosen.borrow().as_ref().map_or_else(|| self.gpu.borrow().plain(), |(gpu, _)| gpu.clone())
    }

    /// For training the judge of `manifest`.
    pub(super) fn for_training(&self, manifest: &Manifest, keep_half_precision: bool) -> Result<TrainingKernels, Failure> {
        Ok(TrainingKernels { options: self.options.clone(), trial: trial(manifest, Work::Training, keep_half_precision)? })
    }
}

/// The kernels to try before a judge is trained.
pub(super) struct TrainingKernels {
    options: GpuOptions,
    trial: Trial,
}

impl TrainingKernels {
    /// `gpu` with the optional kernels that are right in training, and the verdict on each. They are tried on another device, since
    /// a kernel that is refused would end the one that holds the judge.
    pub(super) async fn choose(&self, gpu: &Gpu) -> Result<(Gpu, Vec<Verdict>), Failure> {
        let (chosen, found) = selftest::tried(&self.options, Gpu::open_untested(&self.options).await?, &self.trial).await?;
        Ok((gpu.tuned(chosen.tuning().clone()), found))
    }
}

/// What optional kernels are tried on for a judge: its layers, and how its matrices are stored.
fn trial(manifest: &Manifest, work: Work, keep_half_precision: bool) -> Result<Trial, Failure> {
    let config = manifest.model()?;
    let mut dtypes = matrix_dtypes(&config, dtype_on_gpu(manifest.weight_dtype()?, keep_half_precision));
    if manifest.adapter.is_some() && !dtypes.contains(&WeightDtype::F32) {
        dtypes.push(WeightDtype::F32);
    }
    Ok(Trial { work, model: Some((attention_layers(&config), dtypes)) })
}

/// Verdicts as a page shows them: the kernel's `name`, whether it is `used`, and the finding in a line (`why`).
pub(super) fn verdicts(found: &[Verdict]) -> Value {
    // A compiler's message goes on with the line that it refuses.
    let line = |v: &Verdict| v.to_string().lines().next().unwrap_or_default().to_string();
    let told = |v: &Verdict| json!({"name": v.variant.name(), "used": v.passes(), "why": line(v)});
    Value::Array(found.iter().map(told).collect())
}

/// `navigator.gpu`, if there is one.
fn webgpu() -> Option<JsValue> {
    let navigator = Reflect::get(&js_sys::global(), &"navigator".into()).ok()?;
    Reflect::get(&navigator, &"gpu".into()).ok().filter(JsValue::is_object)
}

/// Vendor, architecture and description of the adapter. wgpu does not pass them on.
async fn describe(webgpu: &JsValue) -> Option<[String; 3]> {
    let request = Reflect::get(webgpu, &"requestAdapter".into()).ok()?.dyn_into::<Function>().ok()?;
    let options = Object::new();
    Reflect::set(&options, &"powerPreference".into(), &"high-performance".into()).ok()?;
    let promise = request.call1(webgpu, &options).ok()?.dyn_into::<Promise>().ok()?;
    let adapter = JsFuture::from(promise).await.ok()?;
    let info = Reflect::get(&adapter, &"info".into()).ok()?;
    Some(["vendor", "architecture", "description"].map(|key| {
        let value = Reflect::get(&info, &key.into()).ok();
        value.and_then(|text| text.as_string()).unwrap_or_default()
    }))
}

/// Whether the judge of this `manifest.json` fits the GPU, before any other file of it is fetched. The JSON has `fits`, `bytes`
/// (to download), `gpuBytes` (weights on the GPU) and `why` if it does not fit. `keep_half_precision` is that of the
/// [`Loader`](super::Loader).
///
/// # Errors
/// `BadBundle`.
#[wasm_bindgen]
pub fn check_bundle(engine: &Engine, manifest: &str, keep_half_precision: bool) -> Result<String, Failure> {
    let manifest = Manifest::parse(manifest)?;
    let (config, dtype) = (manifest.model()?, dtype_on_gpu(manifest.weight_dtype()?, keep_half_precision));
    let gpu = engine.gpu();
    let allowed = gpu.max_binding().min(gpu.max_buffer());
    let least = least_binding(&config, dtype);
    let mut answer = json!({
        "fits": least <= allowed,
        "bytes": manifest.download_bytes(),
        "gpuBytes": bytes_on_gpu(&gpu, &config, dtype)?,
    });
    if least > allowed {
        answer["why"] = over_limit("The smallest piece of this judge's largest matrix", least, allowed).into();
    }
    Ok(answer.to_string())
}
