namespace MendCluster.Cli;

/// <summary>The forms of the files that commands read, in the words of their options.</summary>
internal static class DataForms
{
    public const string Edits = "questions with answers (.tsv: a question, a tab, its answer; one a line), an export of zsRE (.json: a "
        + "list of {subject, src, rephrase, alt, answers, loc, loc_ans}, or as EasyEdit's KnowEdit has it {subject, prompt, target_new, "
        + "rephrase_prompt, ground_truth, locality}) or the paper's form (.jsonl: {input, alternatives, filtered_rephrases, "
        + "output: [{answer}]}, one a line); README has an example of each";
}
