import os
import tempfile

from shown import shown

# docs: inspect
from inspect_ai import Task, eval
from inspect_ai.dataset import Sample
from inspect_ai.model import get_model
from inspect_ai.scorer import model_graded_qa

judge = get_model("openai-api/judge/judge@inspect", base_url=os.environ["JUDGE_URL"], api_key="none")
task = Task(
    dataset=[Sample(input="What is the capital of France?", target="Paris")],
    scorer=model_graded_qa(model=judge),  # GRADE: C or GRADE: I, by the judge's threshold
)
# end
from inspect_ai.model import ModelOutput, ModelUsage

output = ModelOutput.from_content("mockllm/model", "It is Paris.")
output.usage = ModelUsage(input_tokens=8, output_tokens=4, total_tokens=12)  # else it downloads a tokenizer to count them
answers = get_model("mockllm/model", custom_outputs=[output])
with tempfile.TemporaryDirectory() as logs:
    [log] = eval(task, model=answers, display="none", log_dir=logs)
    assert log.status == "success", log.error.message
    [score] = log.samples[0].scores.values()
assert score.value in ("C", "I"), score
shown("inspect_ai", "model_graded_qa", f"grade {score.value}")
