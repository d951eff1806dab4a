import os

from shown import shown

# docs: openevals
from langchain_openai import ChatOpenAI
from openevals.llm import create_llm_as_judge

judge = ChatOpenAI(model="judge@openevals", base_url=os.environ["JUDGE_URL"], api_key="none")
polite = create_llm_as_judge(
    prompt="Is the output polite?\n<input>{inputs}</input>\n<output>{outputs}</output>",
    judge=judge,
    continuous=True,  # a number of 0 to 1: the expected score
)
result = polite(inputs="Where is the station?", outputs="Second street on the left. Have a nice day!")
# end
assert 0 <= result["score"] <= 1, result
shown("openevals", "create_llm_as_judge, continuous", f"score {result['score']:.3f}")
boolean = create_llm_as_judge(prompt="Is the output polite? {inputs} {outputs}", judge=judge)
result = boolean(inputs="Where is the station?", outputs="Go away.")
assert result["score"] in (True, False), result
shown("openevals", "create_llm_as_judge, boolean", f"score {result['score']}")
