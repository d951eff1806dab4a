//! One of Mesa's Vulkan drivers: opens its device as wgpu does, compiles kernels, and says what the compiler says of them
//! (`VK_KHR_pipeline_executable_properties`). Nothing runs on the device, which is not there.

use std::collections::BTreeMap;
use std::ffi::{CStr, CString};
use std::path::Path;

use ash::vk;
use jurist::gpu::{Bindings, KernelSpec, assemble};
use naga::back::spv;
use naga::proc::{BoundsCheckPolicies, BoundsCheckPolicy};
use naga::valid::{Capabilities, ValidationFlags, Validator};
use serde::{Deserialize, Serialize};

/// What a compiler says of a kernel.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Compiled {
    /// Its statistics by their names.
    pub statistics: BTreeMap<String, f64>,
    /// The machine code as text; empty where the driver gives none.
    pub code: String,
}

/// A kernel in SPIR-V, translated with the options that wgpu-hal has for a module that is trusted: no checks in the text, since
/// the device checks buffers (`robustBufferAccess2`), and no zeroed workgroup memory. See `gpu/kernel.rs` of the crate.
struct Module {
    words: Vec<u32>,
    entry: CString,
    /// Storage bindings from 1 on; binding 0 is the uniform `Params`.
    storages: usize,
}

impl Module {
    fn of(spec: &KernelSpec) -> Result<Module, String> {
        let text = assemble(spec).map_err(|e| e.to_string())?;
        let parsed = naga::front::wgsl::parse_str(&text).map_err(|e| e.emit_to_string(&text))?;
        let info = Validator::new(ValidationFlags::all(), Capabilities::all()).validate(&parsed).map_err(|e| format!("{e:?}"))?;
        let unchecked = BoundsCheckPolicy::Unchecked;
        let options = spv::Options {
            lang_version: (1, 6),
            flags: spv::WriterFlags::LABEL_VARYINGS | spv::WriterFlags::FORCE_POINT_SIZE,
            capabilities: None,
            bounds_check_policies: BoundsCheckPolicies {
                index: unchecked,
                buffer: unchecked,
                image_load: unchecked,
                binding_array: unchecked,
            },
            zero_initialize_workgroup_memory: spv::ZeroInitializeWorkgroupMemoryMode::None,
            force_loop_bounding: false,
            emit_int_div_checks: false,
            ..Default::default()
        };
        let pipeline = spv::PipelineOptions { shader_stage: naga::ShaderStage::Compute, entry_point: spec.entry.into() };
        let words = spv::write_vec(&parsed, &info, &options, Some(&pipeline)).map_err(|e| e.to_string())?;
        let entry = CString::new(spec.entry).map_err(|e| e.to_string())?;
        Ok(Module { words, entry, storages: Bindings::of(&text).read_only.len() })
    }
}

/// An opened device.
pub struct Driver {
    /// The device and the version of Mesa, as the driver says them.
    pub device_name: String,
    pub version: String,
    device: ash::Device,
    executables: ash::khr::pipeline_executable_properties::Device,
    // Both last as long as the process: a driver may have threads of its own.
    _instance: ash::Instance,
    _library: std::mem::ManuallyDrop<libloading::Library>,
}

/// The first extensible features of a device, as the driver has them.
#[derive(Default)]
struct Features<'a> {
    v11: vk::PhysicalDeviceVulkan11Features<'a>,
    v12: vk::PhysicalDeviceVulkan12Features<'a>,
    robustness: vk::PhysicalDeviceRobustness2FeaturesEXT<'a>,
    cooperative: vk::PhysicalDeviceCooperativeMatrixFeaturesKHR<'a>,
}

impl Driver {
    /// Opens the first device of the driver in `library`, which is called directly, without Vulkan's loader.
    ///
    /// # Errors
    /// A library that is no Vulkan driver, no device, or one that lacks what wgpu asks for.
    pub fn open(library: &Path) -> Result<Driver, String> {
        let failed = |what: &str, e: vk::Result| format!("{}: {what}: {e}", library.display());
        // SAFETY: Mesa's drivers have no side effects on loading. The symbol has the type that Vulkan's loader expects of it.
        let (library_handle, get) = unsafe {
            let handle = libloading::Library::new(library).map_err(|e| e.to_string())?;
            let get: vk::PFN_vkGetInstanceProcAddr =
                *handle.get(b"vk_icdGetInstanceProcAddr\0").map_err(|e| format!("{}: {e}", library.display()))?;
            (handle, get)
        };
        // SAFETY: as Vulkan prescribes; every structure that a call is given lives until it returns.
        unsafe {
            let entry = ash::Entry::from_static_fn(ash::StaticFn { get_instance_proc_addr: get });
            let application = vk::ApplicationInfo::default().api_version(vk::API_VERSION_1_3);
            let info = vk::InstanceCreateInfo::default().application_info(&application);
            let instance = entry.create_instance(&info, None).map_err(|e| failed("no instance", e))?;
            let all = instance.enumerate_physical_devices().map_err(|e| failed("no devices", e))?;
            let physical = *all.first().ok_or_else(|| format!("{}: the driver sees no device", library.display()))?;

            let mut driver = vk::PhysicalDeviceDriverProperties::default();
            let mut properties = vk::PhysicalDeviceProperties2::default().push_next(&mut driver);
            instance.get_physical_device_properties2(physical, &mut properties);
            let device_name = text(properties.properties.device_name_as_c_str());
            let version = text(driver.driver_info_as_c_str());

            let device = open_device(&instance, physical).map_err(|e| failed("no device", e))?;
            let executables = ash::khr::pipeline_executable_properties::Device::new(&instance, &device);
            let _library = std::mem::ManuallyDrop::new(library_handle);
            Ok(Driver { device_name, version, device, executables, _instance: instance, _library })
        }
    }

    /// Compiles a kernel.
    ///
    /// # Errors
    /// A shader that does not translate, or that the driver refuses. The message does not name the kernel.
    pub fn compile(&self, spec: &KernelSpec) -> Result<Compiled, String> {
        let module = Module::of(spec)?;
        // SAFETY: as Vulkan prescribes; every structure that a call is given lives until it returns.
        unsafe { self.pipeline(&module) }.map_err(|e| e.to_string())
    }

    unsafe fn pipeline(&self, module: &Module) -> Result<Compiled, vk::Result> {
        let device = &self.device;
        let binding = |(number, kind)| {
            let binding = vk::DescriptorSetLayoutBinding::default().binding(number).descriptor_type(kind);
            binding.descriptor_count(1).stage_flags(vk::ShaderStageFlags::COMPUTE)
        };
        let storages = (1..=module.storages as u32).map(|number| (number, vk::DescriptorType::STORAGE_BUFFER));
        let bindings: Vec<_> = [(0, vk::DescriptorType::UNIFORM_BUFFER)].into_iter().chain(storages).map(binding).collect();
        let flags =
            vk::PipelineCreateFlags::CAPTURE_STATISTICS_KHR | vk::PipelineCreateFlags::CAPTURE_INTERNAL_REPRESENTATIONS_KHR;
        unsafe {
            let info = vk::DescriptorSetLayoutCreateInfo::default().bindings(&bindings);
            let sets = [device.create_descriptor_set_layout(&info, None)?];
            let layout = device.create_pipeline_layout(&vk::PipelineLayoutCreateInfo::default().set_layouts(&sets), None)?;
            let code = device.create_shader_module(&vk::ShaderModuleCreateInfo::default().code(&module.words), None)?;
            let stage = vk::PipelineShaderStageCreateInfo::default()
                .flags(vk::PipelineShaderStageCreateFlags::ALLOW_VARYING_SUBGROUP_SIZE)
                .stage(vk::ShaderStageFlags::COMPUTE)
                .module(code)
                .name(&module.entry);
            let info = vk::ComputePipelineCreateInfo::default().flags(flags).layout(layout).stage(stage);
            let pipelines = device.create_compute_pipelines(vk::PipelineCache::null(), &[info], None);
            device.destroy_shader_module(code, None);
            let pipeline = *pipelines.map_err(|(_, e)| e)?.first().ok_or(vk::Result::ERROR_UNKNOWN)?;
            let compiled = self.said_of(pipeline);
            device.destroy_pipeline(pipeline, None);
            device.destroy_pipeline_layout(layout, None);
            device.destroy_descriptor_set_layout(sets[0], None);
            compiled
        }
    }

    unsafe fn said_of(&self, pipeline: vk::Pipeline) -> Result<Compiled, vk::Result> {
        let which = vk::PipelineExecutableInfoKHR::default().pipeline(pipeline).executable_index(0);
        let statistics = unsafe { self.executables.get_pipeline_executable_statistics(&which) }?;
        let value = |s: &vk::PipelineExecutableStatisticKHR| {
            // SAFETY: the format says which field was written.
            let value = unsafe {
                match s.format {
                    vk::PipelineExecutableStatisticFormatKHR::FLOAT64 => s.value.f64,
                    vk::PipelineExecutableStatisticFormatKHR::INT64 => s.value.i64 as f64,
                    vk::PipelineExecutableStatisticFormatKHR::BOOL32 => f64::from(s.value.b32),
                    _ => s.value.u64 as f64,
                }
            };
            (text(s.name_as_c_str()), value)
        };
        let statistics = statistics.iter().map(value).collect();
        let texts = unsafe { self.internals(&which) }?;
        let code = texts.into_iter().find(|(title, _)| is_assembly(title)).map(|(_, code)| code).unwrap_or_default();
        Ok(Compiled { statistics, code })
    }

    /// The texts that the compiler kept of a kernel, by their titles.
    unsafe fn internals(&self, which: &vk::PipelineExecutableInfoKHR) -> Result<Vec<(String, String)>, vk::Result> {
        let call = self.executables.fp().get_pipeline_executable_internal_representations_khr;
        let handle = self.device.handle();
        let mut count = 0;
        unsafe {
            call(handle, which, &mut count, std::ptr::null_mut()).result()?;
            let mut all = vec![vk::PipelineExecutableInternalRepresentationKHR::default(); count as usize];
            call(handle, which, &mut count, all.as_mut_ptr()).result()?;
            let mut room: Vec<Vec<u8>> = all.iter().map(|r| vec![0; r.data_size + 1]).collect();
            for (representation, bytes) in all.iter_mut().zip(&mut room) {
                representation.p_data = bytes.as_mut_ptr().cast();
            }
            call(handle, which, &mut count, all.as_mut_ptr()).result()?;
            let read = |(r, bytes): (&vk::PipelineExecutableInternalRepresentationKHR, &Vec<u8>)| {
                let body = String::from_utf8_lossy(&bytes[..r.data_size]).trim_end_matches('\0').to_string();
                (text(r.name_as_c_str()), body)
            };
            Ok(all.iter().zip(&room).map(read).collect())
        }
    }
}

/// Whether a text of this title is machine code.
fn is_assembly(title: &str) -> bool {
    let title = title.to_lowercase();
    title.contains("assembly") || title.contains("disassembl")
}

fn text(name: Result<&CStr, std::ffi::FromBytesUntilNulError>) -> String {
    name.map(|n| n.to_string_lossy().into_owned()).unwrap_or_default()
}

/// The device with the features that wgpu-hal asks for, and those that kernels may need, where there are such.
unsafe fn open_device(instance: &ash::Instance, physical: vk::PhysicalDevice) -> Result<ash::Device, vk::Result> {
    let extensions = unsafe { instance.enumerate_device_extension_properties(physical) }?;
    let has = |name: &CStr| extensions.iter().any(|e| e.extension_name_as_c_str() == Ok(name));
    let (robust, matrices) = (has(ash::ext::robustness2::NAME), has(ash::khr::cooperative_matrix::NAME));
    let mut wanted = vec![ash::khr::pipeline_executable_properties::NAME.as_ptr()];
    wanted.extend(robust.then_some(ash::ext::robustness2::NAME.as_ptr()));
    wanted.extend(matrices.then_some(ash::khr::cooperative_matrix::NAME.as_ptr()));

    let mut have = Features::default();
    let mut query = vk::PhysicalDeviceFeatures2::default()
        .push_next(&mut have.v11)
        .push_next(&mut have.v12)
        .push_next(&mut have.robustness)
        .push_next(&mut have.cooperative);
    unsafe { instance.get_physical_device_features2(physical, &mut query) };
    let core = query.features;
    let core = vk::PhysicalDeviceFeatures::default()
        .robust_buffer_access(true)
        .shader_int16(core.shader_int16 != 0)
        .shader_int64(core.shader_int64 != 0);
    let mut v11 = vk::PhysicalDeviceVulkan11Features::default()
        .storage_buffer16_bit_access(have.v11.storage_buffer16_bit_access != 0)
        .uniform_and_storage_buffer16_bit_access(have.v11.uniform_and_storage_buffer16_bit_access != 0);
    let mut v12 = vk::PhysicalDeviceVulkan12Features::default()
        .shader_float16(have.v12.shader_float16 != 0)
        .shader_int8(have.v12.shader_int8 != 0)
        .vulkan_memory_model(true)
        .vulkan_memory_model_device_scope(have.v12.vulkan_memory_model_device_scope != 0)
        .storage_buffer8_bit_access(have.v12.storage_buffer8_bit_access != 0)
        .scalar_block_layout(have.v12.scalar_block_layout != 0);
    let mut v13 = vk::PhysicalDeviceVulkan13Features::default()
        .subgroup_size_control(true)
        .compute_full_subgroups(true)
        .shader_zero_initialize_workgroup_memory(true)
        .maintenance4(true)
        .shader_integer_dot_product(true)
        .robust_image_access(true);
    let mut robustness = vk::PhysicalDeviceRobustness2FeaturesEXT::default()
        .robust_buffer_access2(have.robustness.robust_buffer_access2 != 0)
        .robust_image_access2(have.robustness.robust_image_access2 != 0);
    let mut cooperative =
        vk::PhysicalDeviceCooperativeMatrixFeaturesKHR::default().cooperative_matrix(have.cooperative.cooperative_matrix != 0);
    let mut executables = vk::PhysicalDevicePipelineExecutablePropertiesFeaturesKHR::default().pipeline_executable_info(true);
    let priorities = [1.0];
    let queue = [vk::DeviceQueueCreateInfo::default().queue_family_index(0).queue_priorities(&priorities)];
    let mut info = vk::DeviceCreateInfo::default()
        .queue_create_infos(&queue)
        .enabled_extension_names(&wanted)
        .enabled_features(&core)
        .push_next(&mut v11)
        .push_next(&mut v12)
        .push_next(&mut v13)
        .push_next(&mut executables);
    if robust {
        info = info.push_next(&mut robustness);
    }
    if matrices {
        info = info.push_next(&mut cooperative);
    }
    unsafe { instance.create_device(physical, &info, None) }
}
