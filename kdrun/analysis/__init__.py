"""The surveys' tables, figure by figure as they were printed, misprints included: read them with `importlib.resources`.

- `alkhulaifi_*.csv`: Alkhulaifi, Alsahli and Ahmad, Knowledge distillation in deep learning and its applications, PeerJ
  Computer Science 2021: Tables 1 and 2, and the worked example of section 4. Percentages are relative; a negative
  reduction is the table's "(increase)", a negative improvement its "(decrease)".
- `gou_*.csv`: Gou, Yu, Maybank and Tao, Knowledge distillation: a survey, IJCV 2021: Tables 1 to 6. In Tables 5 and 6
  `teacher_accuracy_after` is the first figure of a pair of networks that learn together (DML, DCM).
- `networks.csv`: which network here each name of a network in those tables stands for (`networks.printed_networks`).
"""
