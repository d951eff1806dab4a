// Subgroups for the engine: wgpu 30 knows the feature on native adapters only, and asks for none in a browser.

/** If the adapter has subgroups, devices are asked for them from now on, besides all else. Gives whether it has. */
export async function requestSubgroups() {
  const adapter = await navigator.gpu.requestAdapter({ powerPreference: "high-performance" });
  if (!adapter?.features.has("subgroups")) return false;
  const { requestDevice } = GPUAdapter.prototype;
  GPUAdapter.prototype.requestDevice = function (/** @type {GPUDeviceDescriptor | undefined} */ descriptor) {
    const requiredFeatures = [...(descriptor?.requiredFeatures ?? []), /** @type {GPUFeatureName} */ ("subgroups")];
    return requestDevice.call(this, { ...descriptor, requiredFeatures });
  };
  return true;
}
