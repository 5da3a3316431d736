"""What the launcher of Flex Templates starts: the program of `pipelines/` that PE_BEAM_PIPELINE names."""

import os
import runpy

runpy.run_module(f"pipelines.{os.environ['PE_BEAM_PIPELINE']}", run_name="__main__", alter_sys=True)
