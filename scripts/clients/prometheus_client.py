import os

os.environ["OPENAI_API_KEY"] = "none"

from shown import shown

# docs: prometheus
from prometheus_eval import PrometheusEval
from prometheus_eval.litellm import LiteLLM

judge = PrometheusEval(model=LiteLLM("openai/judge@prometheus", api_base=os.environ["JUDGE_URL"]))
feedback, score = judge.single_absolute_grade(
    instruction="Where is the station?",
    response="Second street on the left. Have a nice day!",
    rubric="Is the answer polite? 1: rude. 5: very polite.",
)
# end
assert 1 <= score <= 5 and feedback, (feedback, score)
shown("prometheus-eval", "single_absolute_grade", f"score {score}")
