namespace MendCluster.Engine.Data;

/// <summary>One edit with all that is asked afterwards.</summary>
/// <param name="Edit">(x_e, y_e).</param>
/// <param name="Rephrases">(x'_e, y_e). Training needs at least one.</param>
/// <param name="Locality">(x_loc, y_loc). Training needs at least one.</param>
/// <param name="Wordings">All questions that are known to ask for the edited fact, also those that are in no row.</param>
public sealed record EditRows(TokenRow Edit, IReadOnlyList<TokenRow> Rephrases, IReadOnlyList<TokenRow> Locality,
    IReadOnlyCollection<string> Wordings)
{
    /// <summary>Questions whose answers follow from the edit and something else, with those. Training reads none.</summary>
    public IReadOnlyList<TokenRow> Implied { get; init; } = [];
}

/// <summary>
/// Question answering, fact checking or generation, as training and evaluation meet them: each row is a function of its number alone, so a
/// run that goes on reads what it would have read.
/// </summary>
public interface IEditTask
{
    /// <summary>Tells its data from others': a SHA-256 of what was read, however the file was called.</summary>
    string Digest { get; }

    /// <summary>Cases that a training is validated on: they choose the editor that it keeps.</summary>
    int ValidationCount { get; }

    /// <summary>Cases to measure on.</summary>
    int CaseCount { get; }

    /// <summary>What an iteration trains on.</summary>
    EditRows Training(long iteration);

    /// <param name="i">From 0, below <see cref="ValidationCount"/>.</param>
    EditRows Validation(int i);

    /// <param name="i">From 0, below <see cref="CaseCount"/>.</param>
    EditRows Case(int i);
}

/// <summary>How many unrelated rows a step reads; the published numbers (mend-spec 4.4).</summary>
public sealed record LocalityRows(int Training = 1, int Validation = 4);
