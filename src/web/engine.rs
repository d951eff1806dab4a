//! The GPU of the visitor, and whether a bundle fits it.

use js_sys::{Function, Object, Promise, Reflect};
use serde_json::json;
use wasm_bindgen::prelude::wasm_bindgen;
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::JsFuture;

use super::Failure;
use super::failure::over_limit;
use super::loader::dtype_on_gpu;
use crate::bundle::Manifest;
use crate::gpu::{Class, Gpu, GpuOptions};
use crate::model::weights::{bytes_on_gpu, least_binding};

/// An opened GPU. It is unusable after `OutOfMemory` or `DeviceLost`: open another.
#[wasm_bindgen]
pub struct Engine {
    pub(super) gpu: Gpu,
    /// Vendor, architecture and description, as far as the browser names them.
    adapter: [String; 3],
}

#[wasm_bindgen]
impl Engine {
    /// Opens the best adapter with all the limits that it has.
    ///
    /// # Errors
    /// `NoWebGpu`, `NoAdapter`.
    pub async fn open() -> Result<Engine, Failure> {
        let Some(webgpu) = webgpu() else {
            let message =
                "This browser has no WebGPU: use a current Chrome, Edge, Safari or Firefox, on a page from https or localhost.";
            return Err(Failure::new("NoWebGpu", message));
        };
        let gpu = Gpu::open_untested(&GpuOptions { basic: true, ..GpuOptions::default() }).await?;
        let adapter = describe(&webgpu).await.unwrap_or_default();
        Ok(Engine { gpu, adapter })
    }

    /// What a page shows of the adapter, as JSON.
    pub fn info(&self) -> String {
        let [vendor, architecture, description] = &self.adapter;
        let named = [description, &self.gpu.facts().name, architecture, vendor].into_iter().find(|name| !name.is_empty());
        json!({
            "adapter": named.map_or("a GPU that the browser does not name", String::as_str),
            "vendor": vendor,
            "architecture": architecture,
            "description": description,
            "software": self.gpu.facts().class == Class::Software,
            "limits": {
                "maxStorageBufferBindingSize": self.gpu.max_binding(),
                "maxBufferSize": self.gpu.max_buffer(),
            },
        })
        .to_string()
    }
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
    let allowed = engine.gpu.max_binding().min(engine.gpu.max_buffer());
    let least = least_binding(&config, dtype);
    let mut answer = json!({
        "fits": least <= allowed,
        "bytes": manifest.download_bytes(),
        "gpuBytes": bytes_on_gpu(&engine.gpu, &config, dtype)?,
    });
    if least > allowed {
        answer["why"] = over_limit("The smallest piece of this judge's largest matrix", least, allowed).into();
    }
    Ok(answer.to_string())
}
